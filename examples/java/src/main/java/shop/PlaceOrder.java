package shop;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.sql.Connection;
import java.sql.SQLException;

final class PlaceOrder {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** Inserts the order and its event: both are there after the commit, or neither. */
    static long placeOrder(Connection database, String customer, long cents)
            throws SQLException, JsonProcessingException {
        database.setAutoCommit(false);
        try (var order = database.prepareStatement(
                 "INSERT INTO orders (customer, amount_cents) VALUES (?, ?) RETURNING id");
             var event = database.prepareStatement(
                 "INSERT INTO outbox (type, key, payload) VALUES ('OrderPlaced', ?, ?)")) {
            order.setString(1, customer);
            order.setLong(2, cents);
            var row = order.executeQuery();
            row.next();
            long id = row.getLong(1);
            event.setString(1, Long.toString(id));
            event.setString(2, JSON.writeValueAsString(new OrderPlaced(id, customer, cents)));
            event.executeUpdate();
            database.commit();
            return id;
        } catch (SQLException | JsonProcessingException | RuntimeException failure) {
            database.rollback();
            throw failure;
        }
    }

    private PlaceOrder() {
    }
}
