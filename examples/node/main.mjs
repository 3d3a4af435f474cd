// Places orders with their events, and adds them up per customer from Kafka:
//
//   node main.mjs place CUSTOMER CENTS
//   node main.mjs consume
import { Kafka, logLevel } from "kafkajs";
import pg from "pg";
import { consume } from "./consume.mjs";
import { placeOrder } from "./place.mjs";

const { DATABASE_URL, KAFKA_BROKERS, TOPIC = "outbox", GROUP = "order-totals" } = process.env;
const [command, customer, cents] = process.argv.slice(2);

// pg reports a lost connection by an event. What was not committed comes again when the program is started again.
const fail = (failure) => {
  console.error(failure.message);
  process.exit(1);
};
const database = new pg.Client(DATABASE_URL);
database.on("error", fail);
try {
  await database.connect();
  if (command === "place") {
    console.log(await placeOrder(database, customer, Number(cents)));
    await database.end();
  } else if (command === "consume") {
    const kafka = new Kafka({ brokers: KAFKA_BROKERS.split(","), logLevel: logLevel.ERROR });
    // A dead copy is given up after this time, and its partitions move to another.
    const consumer = kafka.consumer({ groupId: GROUP, sessionTimeout: 6000, heartbeatInterval: 1000 });
    // The client starts again by itself after what may pass. After anything else the program ends.
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || fail(payload.error));
    for (const signal of ["SIGINT", "SIGTERM"]) {
      process.once(signal, async () => {
        await consumer.disconnect(); // after the record at hand
        await database.end();
      });
    }
    await consumer.connect();
    await consume(database, consumer, TOPIC);
  } else {
    throw new Error("usage: place CUSTOMER CENTS | consume");
  }
} catch (failure) {
  fail(failure);
}
