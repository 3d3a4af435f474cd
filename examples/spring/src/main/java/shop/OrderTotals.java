package shop;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.context.annotation.Profile;
import org.springframework.jdbc.core.simple.JdbcClient;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.stereotype.Component;
import org.springframework.transaction.annotation.Transactional;

/** Adds up orders per customer. Each event takes effect once, although its record may come twice. */
@Component
@Profile("consumer")
class OrderTotals {
    private final JdbcClient database;
    private final ObjectMapper json;

    OrderTotals(JdbcClient database, ObjectMapper json) {
        this.database = database;
        this.json = json;
    }

    /** Claim and effect are one transaction. It is committed when this returns, and the offset after that. */
    @KafkaListener(topics = "${shop.topic}")
    @Transactional(rollbackFor = Exception.class)
    public void take(ConsumerRecord<String, String> record) throws JsonProcessingException {
        boolean isNew = database.sql("SELECT doorbell.first_time('order-totals', ?::uuid)")
            .param(header(record, "id")).query(Boolean.class).single();
        if (isNew && header(record, "type").equals("OrderPlaced") && record.value() != null) {
            var order = json.readValue(record.value(), OrderPlaced.class);
            database.sql("""
                INSERT INTO order_totals AS totals (customer, orders, amount_cents) VALUES (?, 1, ?)
                ON CONFLICT (customer) DO UPDATE
                SET orders = totals.orders + 1, amount_cents = totals.amount_cents + excluded.amount_cents""")
                .params(order.customer(), order.amountCents()).update();
        }
        System.out.println(isNew ? "applied" : "seen before");
    }

    /** The first header of that name: Doorbell's own come first. */
    private static String header(ConsumerRecord<String, String> record, String name) {
        for (var header : record.headers().headers(name)) {
            return new String(header.value(), StandardCharsets.UTF_8);
        }
        throw new IllegalStateException("a record without the header `" + name + "` is not an event of an outbox");
    }
}
