//! The page `/`: throughput, backlog, problems and leadership, kept up to date. It shows what the
//! process knows, and does not query the database.
//!
//! | file | what |
//! |---|---|
//! | `handler` | the pages, their style sheet, their script and the stream of their changes |
//! | `feed` | samples each second, and sends changes to open pages |
//! | `history` | the last five minutes, a sample a second |
//! | `chart` | a history as SVG, with its axes |
//! | `view`, `several`, `incidents` | contents of the templates of the same names |
//! | `words` | figures and times |

mod chart;
mod feed;
pub(crate) mod handler;
mod history;
mod incidents;
mod several;
mod view;
mod words;

pub(crate) use feed::Feed;
