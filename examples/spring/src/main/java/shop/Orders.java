package shop;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.springframework.jdbc.core.simple.JdbcClient;
import org.springframework.stereotype.Service;
import org.springframework.transaction.annotation.Transactional;

@Service
class Orders {
    private final JdbcClient database;
    private final ObjectMapper json;

    Orders(JdbcClient database, ObjectMapper json) {
        this.database = database;
        this.json = json;
    }

    /** Inserts the order and its event: both are there after the commit, or neither. */
    @Transactional(rollbackFor = Exception.class)
    public long place(String customer, long cents) throws JsonProcessingException {
        long order = database.sql("INSERT INTO orders (customer, amount_cents) VALUES (?, ?) RETURNING id")
            .params(customer, cents).query(Long.class).single();
        database.sql("INSERT INTO outbox (type, key, payload) VALUES ('OrderPlaced', ?, ?)")
            .params(Long.toString(order), json.writeValueAsString(new OrderPlaced(order, customer, cents))).update();
        return order;
    }
}
