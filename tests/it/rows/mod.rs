//! Rows of odd tables: ids that repeat, odd contents, rows that stay after their delete.

mod contents;
mod identity;
mod large;
mod undeleted;
mod unreadable;
