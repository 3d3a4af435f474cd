//! Third stage: turns delivery reports into deletes.
//!
//! | file | what |
//! |---|---|
//! | `settler` | takes reports, and says what is due |
//! | `deletes` | the deletes, and the rows that they leave in the table |
//! | `pieces` | deletes that go round the rows that make them fail |
//! | `dead_letters` | moves refused rows to the dead letters |

mod dead_letters;
mod deletes;
mod pieces;
mod settler;

pub(crate) use dead_letters::Parking;
pub(crate) use pieces::delete_in_pieces;
pub(crate) use settler::Settler;
