"""A FastStream service and client. It has no request() on Kafka, so both sides write the headers of the wire themselves."""

import asyncio
import json
import sys
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker, KafkaMessage


def tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)


async def main(brokers: str, prefix: str) -> None:
    broker = KafkaBroker(brokers)
    ours, inbox = f"{prefix}.python", f"{prefix}.python.reply"

    async def answer(value: Any, message: KafkaMessage) -> None:
        headers = message.headers
        await broker.publish(
            value,
            topic=headers["kafka_replyTopic"],
            partition=int(headers["kafka_replyPartition"]),
            headers={"kafka_correlationId": headers["kafka_correlationId"]},
        )

    @broker.subscriber(ours, group_id=f"{prefix}.faststream", auto_offset_reset="earliest")
    async def handle(body: Any, message: KafkaMessage) -> Any:
        if "kafka_replyTopic" in message.headers:
            await answer({"doubled": body["n"] * 2}, message)
            return None
        tell(event=body, tenant=message.headers.get("tenant"), key=(message.raw_message.key or b"").decode())
        # Goes to the header reply_to, if there is one.
        return {"native": True}

    @broker.subscriber(inbox, group_id=f"{prefix}.faststream-inbox", auto_offset_reset="earliest")
    async def reply(body: Any, message: KafkaMessage) -> None:
        tell(reply=body, id=message.headers["kafka_correlationId"], error=message.headers.get("kafka_nest-err"))

    async def ask(pattern: str, value: Any, request: str) -> None:
        headers = {"kafka_replyTopic": inbox, "kafka_replyPartition": "0", "kafka_correlationId": request}
        await broker.publish(value, topic=f"{prefix}.{pattern}", headers=headers)

    app = FastStream(broker)

    @app.after_startup
    async def send() -> None:
        event = f"{prefix}.event"
        await broker.publish({"n": 1}, topic=event, key=b"k-1", headers={"tenant": "acme"})
        await broker.publish("Grüße", topic=event)
        await broker.publish(b'{"raw":true}', topic=event)
        await broker.publish(None, topic=event, key=b"k-1")
        await broker.publish({"n": 2}, topic=event, reply_to=inbox, correlation_id="native")
        await ask("double", {"n": 21}, "r-1")
        await ask("fails", {"n": 21}, "r-2")

    await app.run()


asyncio.run(main(*sys.argv[1:3]))
