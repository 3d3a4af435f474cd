//! Responds with the leader and the standbys of each outbox.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::view::{Relays, RelaysPage};
use crate::config::Outbox;
use crate::http::responses::page;
use crate::http::state::AppState;
use crate::http::ui::Here;
use crate::postgres::{self, Session, Table, leader_holders};

pub(crate) async fn list(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let found = state
        .db
        .run(async |session| find(session, &state.db.outboxes).await);
    match found.await {
        Ok(outboxes) => {
            let frame = state.page(Here::Relays, &headers);
            let shown = RelaysPage {
                page: frame,
                outboxes,
            };
            page(StatusCode::OK, shown.render())
        }
        Err(error) => error.page(),
    }
}

async fn find(session: &mut Session, outboxes: &[Outbox]) -> postgres::Result<Vec<Relays>> {
    let mut all = Vec::new();
    for outbox in outboxes {
        let table = Table::find_to_ask(session, outbox).await?;
        let holders = session.reading(async |session| leader_holders(session, &table).await);
        let (leader, standbys) = holders.await?;
        all.push(Relays::of(table.quoted, leader.as_ref(), &standbys));
    }
    Ok(all)
}
