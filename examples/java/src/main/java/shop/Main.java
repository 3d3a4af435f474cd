package shop;

import java.sql.DriverManager;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** {@code place CUSTOMER CENTS} places an order with its event, {@code consume} adds orders up from Kafka. */
final class Main {
    public static void main(String[] arguments) throws Exception {
        try (var database = DriverManager.getConnection(System.getenv("DATABASE_URL"))) {
            switch (arguments[0]) {
                case "place" -> System.out.println(
                    PlaceOrder.placeOrder(database, arguments[1], Long.parseLong(arguments[2])));
                case "consume" -> {
                    try (var consumer = new KafkaConsumer<String, String>(settings())) {
                        wakeUpOnSignal(consumer);
                        consumer.subscribe(List.of(variable("TOPIC", "outbox")));
                        Consume.consume(database, consumer);
                    } catch (WakeupException stop) {
                        // Asked to stop, between two records.
                    }
                }
                default -> throw new IllegalArgumentException("usage: place CUSTOMER CENTS | consume");
            }
        }
    }

    private static Map<String, Object> settings() {
        var settings = new HashMap<String, Object>(Map.of(
            ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("KAFKA_BROKERS"),
            ConsumerConfig.GROUP_ID_CONFIG, variable("GROUP", "order-totals"),
            ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
            // The offset follows the effect. Committed by a timer, it could run ahead of it: an event would be lost.
            ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false,
            ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class,
            ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class));
        if (System.getenv("INSTANCE") != null) {
            settings.put(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG, System.getenv("INSTANCE"));
        }
        return settings;
    }

    /** The JVM ends when its shutdown hooks have, so the hook waits for the main thread. */
    private static void wakeUpOnSignal(KafkaConsumer<?, ?> consumer) {
        var main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                main.join();
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
    }

    private static String variable(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    private Main() {
    }
}
