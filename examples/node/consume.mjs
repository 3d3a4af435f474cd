/** The first value of a header. Doorbell's own headers come first; of several of one name the client makes an array. */
function header(message, name) {
  const value = message.headers?.[name];
  return (Array.isArray(value) ? value[0] : value)?.toString();
}

async function apply(database, message) {
  if (header(message, "type") !== "OrderPlaced" || message.value === null) return;
  const { customer, amount_cents: cents } = JSON.parse(message.value);
  await database.query(
    `INSERT INTO order_totals AS totals (customer, orders, amount_cents) VALUES ($1, 1, $2)
     ON CONFLICT (customer) DO UPDATE
     SET orders = totals.orders + 1, amount_cents = totals.amount_cents + excluded.amount_cents`,
    [customer, cents],
  );
}

/** Claims the event and applies its effect in one transaction. Tells whether the event was new. */
async function takeIn(database, message) {
  const id = header(message, "id");
  if (id === undefined) throw new Error("a record without the header `id` is not an event of an outbox");
  await database.query("BEGIN");
  try {
    const claim = await database.query("SELECT doorbell.first_time('order-totals', $1) AS is_new", [id]);
    const isNew = claim.rows[0].is_new;
    if (isNew) await apply(database, message);
    await database.query("COMMIT");
    return isNew;
  } catch (failure) {
    await database.query("ROLLBACK");
    throw failure;
  }
}

/** Takes in record after record. The offset follows the effect, never the reverse. */
export async function consume(database, consumer, topic) {
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      const isNew = await takeIn(database, message);
      await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }]);
      console.log(isNew ? "applied" : "seen before");
    },
  });
}
