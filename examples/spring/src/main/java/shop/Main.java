package shop;

import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Profile;
import org.springframework.kafka.listener.CommonErrorHandler;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;

/** Places the order {@code CUSTOMER CENTS}, or, with the profile {@code consumer}, adds orders up from Kafka. */
@SpringBootApplication
public class Main {
    public static void main(String[] arguments) {
        SpringApplication.run(Main.class, arguments);
    }

    @Bean
    @Profile("!consumer")
    CommandLineRunner place(Orders orders) {
        return arguments -> System.out.println(orders.place(arguments[0], Long.parseLong(arguments[1])));
    }

    /** By default a record that fails ten times is skipped. An event that was not applied must not be. */
    @Bean
    CommonErrorHandler errorHandler() {
        return new DefaultErrorHandler(new FixedBackOff(1000, FixedBackOff.UNLIMITED_ATTEMPTS));
    }
}
