//! The routes of an outbox: from texts to rules, and what follows from all of them.

use super::errors::{ConfigErrors, Origin};
use super::key::{Draft, RouteDraft, Section};
use super::keys::KEYS;
use super::layer::RouteLayer;
use super::settings::Outbox;
use super::types::{Route, RouteInput, RouteRule, check_topic};

/// Returns the routes of an outbox whose other settings are known. `is_whole`: what is not given is
/// missing, and not hidden by a fault of the file.
pub(super) fn routes(
    layers: &[RouteLayer],
    outbox: &Outbox,
    is_whole: bool,
    errors: &mut ConfigErrors,
) -> Vec<RouteRule> {
    let rules = layers.iter().filter_map(|layer| {
        let mut draft = Draft::default();
        let mut right = true;
        for key in KEYS.iter().filter(|key| key.section == Section::ROUTE) {
            right &= layer.values.store(key, &mut draft, errors);
        }
        right &= !is_whole || is_complete(layer, &draft.route, errors);
        right.then(|| rule(layer, draft.route, outbox, errors))?
    });
    rules.collect()
}

/// Where a key of the route is given; else where the route is.
fn origin(layer: &RouteLayer, key: &str) -> Option<Origin> {
    let given = layer.values.get(Section::ROUTE, key);
    Some(given.map_or_else(|| layer.origin.clone(), |given| given.origin.clone()))
}

fn is_complete(layer: &RouteLayer, draft: &RouteDraft, errors: &mut ConfigErrors) -> bool {
    let mut faults = Vec::new();
    for key in ["column", "match"] {
        if layer.values.get(Section::ROUTE, key).is_none() {
            faults.push((key, format!("the route has no `{key}`: set it")));
        }
    }
    let has_topic = layer.values.get(Section::ROUTE, "topic").is_some();
    match (has_topic, draft.drops) {
        (true, true) => {
            let text =
                "the route has a `topic` and drops rows as well: keep one of `topic` and `drop`";
            faults.push(("drop", text.into()));
        }
        (false, false) => {
            let text = "the route says not where rows go: set `topic`, or `drop = true`";
            faults.push(("drop", text.into()));
        }
        _ => {}
    }
    let is_complete = faults.is_empty();
    for (key, text) in faults {
        errors.push(origin(layer, key), text);
    }
    is_complete
}

fn rule(
    layer: &RouteLayer,
    draft: RouteDraft,
    outbox: &Outbox,
    errors: &mut ConfigErrors,
) -> Option<RouteRule> {
    let (input, pattern) = (draft.input?, draft.pattern?);
    if let Some(text) = of_the_relay(&input, outbox) {
        errors.push(origin(layer, "column"), text);
    }
    match RouteRule::of(input, pattern, draft.topic) {
        Ok(rule) => {
            if let Some(text) = rule.topic().and_then(|topic| never_possible(topic, outbox)) {
                errors.push(origin(layer, "topic"), text);
            }
            Some(rule)
        }
        Err(error) => {
            errors.push(
                origin(layer, "topic"),
                format!("the topic of a route {error}"),
            );
            None
        }
    }
}

/// Says that the relay sets the header, so that no row has it of its own.
fn of_the_relay(input: &RouteInput, outbox: &Outbox) -> Option<String> {
    let RouteInput::Header(name) = input else {
        return None;
    };
    let is_set = outbox.profile_headers().any(|it| it == name)
        || outbox.fixed_headers.contains_key(name)
        || outbox.columns.has_header(name);
    is_set.then(|| {
        format!(
            "the route matches the header `{name}`, which the relay sets: name a column instead"
        )
    })
}

/// Says why no row can go to the topic.
fn never_possible(topic: &Route, outbox: &Outbox) -> Option<String> {
    if topic.has_type() && outbox.columns.event_type.is_none() {
        return Some("the topic of a route has {type}, and the outbox no column for it: remove that, or `type = \"none\"`".into());
    }
    let fixed = topic.fixed(&outbox.table.name)?;
    match check_topic(&fixed) {
        Err(error) => Some(format!(
            "the table's name cannot be a part of a topic: {error}; write the topic of the route without {{table}}"
        )),
        Ok(()) if !outbox.topics.allow(&fixed) => Some(format!(
            "`topics` leaves out the topic {fixed} of a route: add it, or change the route"
        )),
        Ok(()) => None,
    }
}

impl Outbox {
    /// The templates of its topics: that of rows that no route takes comes first.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Route> {
        let of_routes = self.routes.iter().filter_map(RouteRule::topic);
        [&self.topic].into_iter().chain(of_routes)
    }

    /// The topics that do not depend on the row, each once, and whether others do.
    pub(crate) fn fixed_topics(&self) -> (Vec<String>, bool) {
        let (mut fixed, mut others) = (Vec::new(), false);
        for template in self.templates() {
            match template.fixed(&self.table.name) {
                Some(topic) if fixed.contains(&topic) => {}
                Some(topic) => fixed.push(topic),
                None => others = true,
            }
        }
        (fixed, others)
    }

    /// The columns that routes match and that their topics are made of, each once.
    pub(crate) fn route_columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for rule in &self.routes {
            let input = match rule.input() {
                RouteInput::Column(name) => Some(name.as_str()),
                RouteInput::Header(_) => None,
            };
            let of_topic = rule.topic().into_iter().flat_map(Route::columns);
            columns.extend(input.into_iter().chain(of_topic));
        }
        let mut known = Vec::new();
        columns.retain(|it| {
            !known.contains(it) && {
                known.push(*it);
                true
            }
        });
        columns
    }

    /// The first header that a route matches.
    pub(crate) fn routed_header(&self) -> Option<&str> {
        self.routes.iter().find_map(|rule| match rule.input() {
            RouteInput::Header(name) => Some(name.as_str()),
            RouteInput::Column(_) => None,
        })
    }

    /// Its topics in a few words.
    pub(crate) fn shown_topic(&self) -> String {
        match self.routes.len() {
            0 => self.topic.to_string(),
            1 => format!("{} and 1 route", self.topic),
            routes => format!("{} and {routes} routes", self.topic),
        }
    }
}
