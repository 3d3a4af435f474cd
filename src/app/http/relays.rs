//! Who relays, as the database knows it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Source;
use super::answers::page;
use crate::app::page::{Led, RelayPage};
use crate::postgres::{self, Table, leader_holders};

/// The leader of each outbox and those that wait.
pub(super) async fn list(State(source): State<Arc<Source>>) -> Response {
    match source.desk.within(led(&source)).await {
        Ok(all) => page(StatusCode::OK, RelayPage::of(all).html()),
        Err(trouble) => trouble.page(),
    }
}

async fn led(source: &Source) -> postgres::Result<Vec<Led>> {
    let mut session = source.desk.session().await?;
    let mut all = Vec::new();
    for outbox in &source.desk.outboxes {
        let table = Table::find_to_ask(&mut session, &outbox.table, &outbox.columns).await?;
        let (leader, standbys) = leader_holders(&mut session, &table).await?;
        all.push(Led {
            outbox: table.quoted,
            leader,
            standbys,
        });
    }
    Ok(all)
}
