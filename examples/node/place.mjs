/** Inserts the order and its event: both are there after the commit, or neither. */
export async function placeOrder(database, customer, cents) {
  await database.query("BEGIN");
  try {
    const inserted = await database.query(
      "INSERT INTO orders (customer, amount_cents) VALUES ($1, $2) RETURNING id",
      [customer, cents],
    );
    const order = Number(inserted.rows[0].id);
    const payload = { order_id: order, customer, amount_cents: cents };
    await database.query("INSERT INTO outbox (type, key, payload) VALUES ('OrderPlaced', $1, $2)", [
      String(order),
      JSON.stringify(payload),
    ]);
    await database.query("COMMIT");
    return order;
  } catch (failure) {
    await database.query("ROLLBACK");
    throw failure;
  }
}
