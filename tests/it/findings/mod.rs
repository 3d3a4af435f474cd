//! What `doorbell check` and `status` conclude: each hazard has its finding and its remedy, causes
//! are told apart, and ordinary traffic is no finding.

mod causes;
mod hazards;
mod incidents;
mod printed;
mod quiet;
mod remedies;
mod tail;
