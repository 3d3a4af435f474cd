//! The filter of the list, which survives each action: it is part of the address of each page.

use crate::config::Outbox;
use crate::http::form::Form;
use crate::http::responses::HttpError;
use crate::postgres::LetterFilter;

/// Which dead letters a page is about.
#[derive(Clone, Default)]
pub(crate) struct Query {
    /// Only of this outbox, by its configured name.
    pub(crate) outbox: Option<String>,
    pub(crate) filter: LetterFilter,
}

impl Query {
    pub(crate) fn of(fields: &Form) -> Result<Self, HttpError> {
        Ok(Self {
            outbox: fields.text("outbox")?,
            filter: LetterFilter {
                until: None,
                ..fields.filter()?
            },
        })
    }

    pub(crate) fn is_any(&self) -> bool {
        self.filter == LetterFilter::default()
    }

    /// The fields of a form that selects the same.
    pub(crate) fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("outbox", &self.outbox),
            ("reason", &self.filter.reason),
            ("topic", &self.filter.topic),
            ("type", &self.filter.event_type),
        ];
        let set = fields.into_iter();
        set.filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect()
    }

    /// The part of an address after the question mark, with more parameters.
    pub(crate) fn text(&self, more: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .extend_pairs(self.fields())
            .extend_pairs(more)
            .finish()
    }

    pub(crate) fn address(&self, path: &str, more: &[(&str, &str)]) -> String {
        match self.text(more).as_str() {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }

    /// Describes the filter, to follow "dead letters".
    pub(crate) fn words(&self) -> String {
        let filter = &self.filter;
        let parts = [
            ("of the outbox", &self.outbox),
            ("with", &filter.reason),
            ("for the topic", &filter.topic),
            ("of the type", &filter.event_type),
        ];
        let set = parts
            .into_iter()
            .filter_map(|(words, value)| Some((words, value.as_ref()?)));
        set.map(|(words, value)| format!(" {words} “{value}”"))
            .collect()
    }

    /// Returns the outboxes whose letters are meant.
    pub(crate) fn chosen(&self, all: &[Outbox]) -> Result<Vec<Outbox>, HttpError> {
        let Some(name) = &self.outbox else {
            return Ok(all.to_vec());
        };
        let is_it = |it: &&Outbox| it.table.to_string() == *name;
        let chosen: Vec<_> = all.iter().filter(is_it).cloned().collect();
        if chosen.is_empty() {
            let known = all.iter().map(|it| it.table.to_string());
            return Err(HttpError::no_outbox(known));
        }
        Ok(chosen)
    }
}
