package shop;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Map;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** Adds up orders per customer. Each event takes effect once, although its record may come twice. */
final class Consume {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** Takes in record after record, until the caller wakes the consumer up. The offset follows the effect. */
    static void consume(Connection database, Consumer<String, String> consumer) throws SQLException, IOException {
        database.setAutoCommit(false);
        while (true) {
            for (var record : consumer.poll(Duration.ofSeconds(1))) {
                boolean isNew = takeIn(database, record);
                consumer.commitSync(Map.of(
                    new TopicPartition(record.topic(), record.partition()),
                    new OffsetAndMetadata(record.offset() + 1)));
                System.out.println(isNew ? "applied" : "seen before");
            }
        }
    }

    /** Claims the event and applies its effect in one transaction. Tells whether the event was new. */
    static boolean takeIn(Connection database, ConsumerRecord<String, String> record) throws SQLException, IOException {
        try (var claim = database.prepareStatement("SELECT doorbell.first_time('order-totals', ?::uuid)")) {
            claim.setString(1, header(record, "id"));
            var row = claim.executeQuery();
            row.next();
            boolean isNew = row.getBoolean(1);
            if (isNew) {
                apply(database, record);
            }
            database.commit();
            return isNew;
        } catch (SQLException | IOException | RuntimeException failure) {
            database.rollback();
            throw failure;
        }
    }

    private static void apply(Connection database, ConsumerRecord<String, String> record)
            throws SQLException, IOException {
        if (!header(record, "type").equals("OrderPlaced") || record.value() == null) {
            return;
        }
        var order = JSON.readValue(record.value(), OrderPlaced.class);
        try (var totals = database.prepareStatement("""
                INSERT INTO order_totals AS totals (customer, orders, amount_cents) VALUES (?, 1, ?)
                ON CONFLICT (customer) DO UPDATE
                SET orders = totals.orders + 1, amount_cents = totals.amount_cents + excluded.amount_cents""")) {
            totals.setString(1, order.customer());
            totals.setLong(2, order.amountCents());
            totals.executeUpdate();
        }
    }

    /** The first header of that name: Doorbell's own come first. */
    private static String header(ConsumerRecord<String, String> record, String name) {
        for (var header : record.headers().headers(name)) {
            return new String(header.value(), StandardCharsets.UTF_8);
        }
        throw new IllegalStateException("a record without the header `" + name + "` is not an event of an outbox");
    }

    private Consume() {
    }
}
