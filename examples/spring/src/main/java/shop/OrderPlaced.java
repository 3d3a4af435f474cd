package shop;

import com.fasterxml.jackson.annotation.JsonProperty;

/** The payload of the event. */
record OrderPlaced(
    @JsonProperty("order_id") long orderId,
    @JsonProperty("customer") String customer,
    @JsonProperty("amount_cents") long amountCents) {
}
