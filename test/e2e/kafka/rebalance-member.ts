import 'reflect-metadata';
import { writeSync } from 'node:fs';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { storkMicroservice, StorkModule } from 'nestjs-stork';
import { kafka, KafkaContext } from 'nestjs-stork/kafka';

// One member of a group, in a process of its own: it reports each event on its standard output as a line of
// JSON.

export interface MemberSettings {
  readonly brokers: readonly string[];
  readonly group: string;
  readonly topic: string;
}

/** The payload of a message: what its handler does. */
export interface Job {
  readonly n: number;
  readonly takesMs: number;
}

/** `at` is of a clock that all processes of the machine share, in nanoseconds. */
export type MemberEvent =
  | { readonly event: 'ready' | 'closed'; readonly at: string }
  | {
      readonly event: 'start' | 'end';
      readonly at: string;
      readonly partition: number;
      readonly offset: number;
    };

const settings = JSON.parse(process.argv[2]!) as MemberSettings;

/** Writes synchronously, so that a process that is killed has reported everything. */
function report(event: MemberEvent['event'], place: object = {}): void {
  writeSync(1, `${JSON.stringify({ event, at: String(process.hrtime.bigint()), ...place })}\n`);
}

@Controller()
class Worker {
  @EventPattern<string>(settings.topic)
  async work(@Payload() { takesMs }: Job, @Ctx() { partition, offset }: KafkaContext): Promise<void> {
    const place = { partition, offset: Number(offset) };
    report('start', place);
    await new Promise((resolve) => setTimeout(resolve, takesMs));
    report('end', place);
  }
}

@Module({
  imports: [
    StorkModule.forRoot({
      drainTimeoutMs: 10_000,
      transports: {
        main: kafka({
          brokers: settings.brokers,
          groupId: settings.group,
          fromBeginning: true,
          sessionTimeoutMs: 12_000,
          heartbeatIntervalMs: 500,
          reconnect: { delayMs: 50, maxDelayMs: 200 },
        }),
      },
    }),
  ],
  controllers: [Worker],
})
class MemberModule {}

const app = await NestFactory.createMicroservice(MemberModule, { ...storkMicroservice(), logger: false });
process.once('SIGTERM', () => {
  void app.close().then(() => {
    report('closed');
    process.exit(0);
  });
});
await app.listen();
report('ready');
