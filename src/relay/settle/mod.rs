//! Third stage: turns delivery reports into deletes.
//!
//! | file | what |
//! |---|---|
//! | `settler` | takes reports, and says what is due |
//! | `deletes` | the deletes, and the rows that they leave in the table |
//! | `pieces` | deletes that go round the rows that make them fail |
//! | `dead_letters` | moves refused rows to the dead letters |
//! | `held_rows` | records the refused rows that hold others back |

mod dead_letters;
mod deletes;
mod held_rows;
mod pieces;
mod settler;

pub(crate) use dead_letters::Parking;
pub(crate) use held_rows::HeldRecord;
pub(crate) use pieces::delete_in_pieces;
pub(crate) use settler::Settler;
