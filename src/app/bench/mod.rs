//! Measuring on the user's own services.
//!
//! | file | what |
//! |---|---|
//! | `plot` | plots as SVG |

pub mod plot;
