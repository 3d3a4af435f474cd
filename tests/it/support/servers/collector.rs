//! A trace collector that the test can inspect: HTTP, as simple as possible.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{self as proto, status::StatusCode};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Identity;
use crate::support::eventually;

/// Accepts spans until the test ends.
pub(crate) struct Collector {
    address: String,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    connections: AtomicUsize,
    heads: Mutex<Vec<String>>,
    spans: Mutex<Vec<Span>>,
}

/// A received span.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) kind: proto::span::SpanKind,
    /// `TRACE-SPAN STATE` of each.
    pub(crate) links: Vec<String>,
    pub(crate) error: Option<String>,
    pub(crate) nanoseconds: u64,
    attributes: Vec<KeyValue>,
    resource: Vec<KeyValue>,
}

impl Collector {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// Starts it at that address.
    pub(crate) fn at(address: &str) -> Self {
        Self::with(address, None)
    }

    /// Starts it on a free port, with TLS.
    pub(crate) fn secure(identity: &Identity) -> Self {
        let certificate = CertificateDer::from_pem_file(&identity.certificate);
        let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.expect("a certificate")], key)
            .expect("a certificate and its key");
        Self::with("127.0.0.1:0", Some(Arc::new(config)))
    }

    fn with(address: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let heard = Arc::new(Heard::default());
        let hearing = Arc::clone(&heard);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                hearing.connections.fetch_add(1, Ordering::Relaxed);
                let (heard, tls) = (Arc::clone(&hearing), tls.clone());
                std::thread::spawn(move || match tls {
                    None => while heard.answer(&mut stream).is_some() {},
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a session");
                        let mut stream = StreamOwned::new(connection, stream);
                        while heard.answer(&mut stream).is_some() {}
                    }
                });
            }
        });
        Self { address, heard }
    }

    /// Returns its address, as the relay is given it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.heard.connections.load(Ordering::Relaxed)
    }

    /// Returns the heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heard.heads.lock().expect("no panic").clone()
    }

    /// Returns the spans so far whose names begin so.
    pub(crate) fn spans(&self, name: &str) -> Vec<Span> {
        let spans = self.heard.spans.lock().expect("no panic");
        let named = spans.iter().filter(|span| span.name.starts_with(name));
        named.cloned().collect()
    }

    /// Waits until there are so many.
    #[track_caller]
    pub(crate) fn await_spans(&self, name: &str, number: usize) -> Vec<Span> {
        eventually(&format!("{number} spans {name:?}"), || {
            let spans = self.spans(name);
            (spans.len() >= number).then_some(spans)
        })
    }
}

impl Heard {
    /// Reads one request; `None` when no more will come.
    fn answer(&self, stream: &mut (impl Read + Write)) -> Option<()> {
        let mut reader = BufReader::new(&mut *stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (reader.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        let head = head.to_lowercase();
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length: "));
        let mut body = vec![0; length?.trim().parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let request = ExportTraceServiceRequest::decode(&body[..]).expect("spans as protobuf");
        self.heads.lock().expect("no panic").push(head);
        self.take(request);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .ok()?;
        stream.flush().ok()
    }

    fn take(&self, request: ExportTraceServiceRequest) {
        let mut spans = self.spans.lock().expect("no panic");
        for all in request.resource_spans {
            let resource = all.resource.unwrap_or_default().attributes;
            for span in all.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span::of(span, resource.clone()));
            }
        }
    }
}

impl Span {
    fn of(span: proto::Span, resource: Vec<KeyValue>) -> Self {
        let link = |link: &proto::span::Link| {
            let context = format!("{}-{}", hex(&link.trace_id), hex(&link.span_id));
            format!("{context} {}", link.trace_state)
        };
        let status = span
            .status
            .as_ref()
            .filter(|it| it.code() == StatusCode::Error);
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind(),
            links: span.links.iter().map(link).collect(),
            error: status.map(|status| status.message.clone()),
            nanoseconds: span.end_time_unix_nano - span.start_time_unix_nano,
            name: span.name,
            attributes: span.attributes,
            resource,
        }
    }

    /// Returns an attribute, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        text(&self.attributes, key)
    }

    /// Returns an attribute of the sender, as text.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        text(&self.resource, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    let AnyValue { value } = found.value.as_ref()?;
    Some(match value.as_ref()? {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(truth) => truth.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
