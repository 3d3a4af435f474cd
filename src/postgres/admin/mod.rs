//! Statements of the commands.

pub(crate) mod adopt;
pub(crate) mod dead_letters;
pub(crate) mod due_indexes;
pub(crate) mod emit;
pub(crate) mod held;
pub(crate) mod pause;
pub(crate) mod schema;
pub(crate) mod scripts;
pub(crate) mod status;
