"""An EVKafka service: reads `orders`, answers each event with one of its own in `answers`."""

import asyncio
import sys
from types import ModuleType

# Release 0.7.0 was published without its sub-package for AsyncAPI documents, which nothing here uses.
for module, name in (("server", "AsyncApiServer"), ("spec", "get_asyncapi_spec")):
    missing = ModuleType(f"evkafka.asyncapi.{module}")
    setattr(missing, name, None)
    sys.modules[missing.__name__] = missing

from evkafka import EVKafkaApp, EVKafkaProducer, Request


async def main(brokers: str, orders: str, answers: str) -> None:
    producer = EVKafkaProducer({"bootstrap_servers": brokers, "topic": answers})
    app = EVKafkaApp(
        config={
            "bootstrap_servers": brokers,
            "group_id": f"{orders}.evkafka",
            "topics": [orders],
            "auto_offset_reset": "earliest",
        }
    )

    @app.event("OrderPlaced")
    async def placed(event: dict, request: Request) -> None:
        tenant = request.headers["tenant"].decode()
        await producer.send_event({"echo": event, "tenant": tenant}, "OrderSeen", key=request.key)

    @app.event("Note")
    async def note(event: str) -> None:
        await producer.send_event(event.upper(), "NoteSeen")

    await producer.start()
    # EVKafka itself writes only bytes; other Python programs write headers without a value.
    await producer._producer.send_and_wait(
        answers, value=b"{}", headers=[("Event-Type", b"Broken"), ("nothing", None)]
    )
    await app.serve()
    await producer.stop()


asyncio.run(main(*sys.argv[1:4]))
