//! A real Chromium without a window, by its driver.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use thirtyfour::common::capabilities::desiredcapabilities::Capabilities;
use thirtyfour::{By, Key, WebDriver};

use super::servers::fetch;
use super::{Relay, eventually};

/// One window with a profile of its own. Closed on drop.
pub(crate) struct Browser {
    window: Option<WebDriver>,
    runtime: tokio::runtime::Runtime,
    driver: Child,
    /// The profile, and the log of the driver.
    _folder: tempfile::TempDir,
}

/// Whether pages may run scripts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scripts {
    On,
    Off,
}

/// The colour scheme that the user prefers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    pub(crate) const BOTH: [Self; 2] = [Self::Light, Self::Dark];

    fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

impl Browser {
    /// Opens one. Prints the reason and returns `None` where this machine cannot have it.
    pub(crate) fn open(scripts: Scripts) -> Option<Self> {
        let programs = match fetch("chromium") {
            Ok(programs) => programs,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return None;
            }
        };
        // Another library of the tests installs a provider of cryptography, which the client of the
        // driver then needs as well.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("driver");
        let output = std::fs::File::create(&said).expect("a file");
        let driver = Command::new(&programs["CHROMEDRIVER"])
            .arg("--port=0")
            .envs(&programs)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("the driver starts");
        let mut browser = Self {
            window: None,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            driver,
            _folder: folder,
        };
        let port = browser.port(&said);
        let wanted = capabilities(&programs, scripts);
        let window = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted);
        browser.window = Some(browser.runtime.block_on(window).expect("a window"));
        browser.screen(1280, 900);
        Some(browser)
    }

    fn port(&mut self, said: &Path) -> u16 {
        eventually("the driver says its port", || {
            let ended = self.driver.try_wait().expect("the driver is a child");
            assert!(ended.is_none(), "the driver ended: {ended:?}");
            let text = std::fs::read_to_string(said).ok()?;
            let (_, rest) = text.split_once("successfully on port ")?;
            rest.split_once('.')?.0.parse().ok()
        })
    }

    fn window(&self) -> &WebDriver {
        self.window.as_ref().expect("an open window")
    }

    fn wait<T, E: std::fmt::Debug>(&self, work: impl Future<Output = Result<T, E>>) -> T {
        self.runtime.block_on(work).expect("the browser does it")
    }

    /// Opens a page of a relay.
    pub(crate) fn visit(&self, relay: &Relay, path: &str) {
        self.wait(
            self.window()
                .goto(format!("http://{}{path}", relay.address())),
        );
    }

    /// Opens a page of a relay as a user who gives this name and password where one is asked for.
    pub(crate) fn visit_as(&self, relay: &Relay, path: &str, user: &str, password: &str) {
        let address = relay.address();
        self.wait(
            self.window()
                .goto(format!("http://{user}:{password}@{address}{path}")),
        );
    }

    /// Returns what a script returns. It may do what the page's own scripts may not.
    pub(crate) fn run(&self, script: &str) -> Value {
        let given: Vec<Value> = Vec::new();
        let returned = self.wait(self.window().execute(script, given));
        returned.json().clone()
    }

    /// Returns the text of the page.
    pub(crate) fn text(&self) -> String {
        let read = async {
            let body = self.window().find(By::Tag("body")).await?;
            body.text().await
        };
        // A page that is being replaced has none.
        self.runtime.block_on(read).unwrap_or_default()
    }

    /// Waits until the page shows all of the words.
    #[track_caller]
    pub(crate) fn await_words(&self, words: &[&str]) {
        eventually(&format!("{words:?} on the page:\n{}", self.text()), || {
            let text = self.text();
            words.iter().all(|word| text.contains(word)).then_some(())
        });
    }

    /// Clicks the element of a selector.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        self.wait(async { self.window().find(By::Css(selector)).await?.click().await });
    }

    /// Presses a key in the focused element.
    pub(crate) fn press(&self, key: Key) {
        self.wait(self.window().action_chain().send_keys(key).perform());
    }

    fn tell(&self, command: &str, parameters: Value) -> Value {
        self.wait(self.window().cdp().send_raw(command, parameters))
    }

    /// Emulates this preference of the system.
    pub(crate) fn prefer(&self, scheme: Scheme) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme.word()});
        self.tell("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Sets the size of the viewport, in CSS pixels.
    pub(crate) fn screen(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.tell("Emulation.setDeviceMetricsOverride", size);
    }

    /// Saves a screenshot of the whole page in `target/screenshots`.
    pub(crate) fn picture(&self, name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(name).with_extension("png");
        let taken = self.tell(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true}),
        );
        let png = taken["data"].as_str().expect("a picture");
        let png = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, png);
        std::fs::write(&path, png.expect("base64")).expect("room for a picture");
        path
    }

    /// Returns the faults that axe-core finds. Prints the reason and returns `None` where this
    /// machine cannot have it.
    pub(crate) fn faults(&self) -> Option<Vec<String>> {
        let program = match fetch("axe") {
            Ok(programs) => std::fs::read_to_string(&programs["AXE"]).expect("axe-core"),
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return None;
            }
        };
        self.run(&program);
        let asked = "const done = arguments[arguments.length - 1]; axe.run().then(done, (error) => done(String(error)));";
        let given: Vec<Value> = Vec::new();
        let found = self.wait(self.window().execute_async(asked, given));
        let found = found.json();
        assert!(
            found["passes"].as_array().is_some_and(|it| it.len() > 10),
            "no answer of axe-core: {found}"
        );
        let violations = found["violations"].as_array().expect("a list").iter();
        let words = |it: &Value| {
            let nodes = it["nodes"].as_array().expect("a list").iter();
            let nodes: Vec<_> = nodes
                .map(|node| format!("{}: {}", node["html"], node["any"]))
                .collect();
            format!("{}: {}", it["help"], nodes.join("; "))
        };
        Some(violations.map(words).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            self.runtime.block_on(window.quit()).ok();
        }
        kill_process_group(Pid::from_child(&self.driver), Signal::KILL).ok();
        self.driver.wait().ok();
    }
}

fn capabilities(programs: &HashMap<String, String>, scripts: Scripts) -> Capabilities {
    let mut options = json!({
        "binary": programs["CHROMIUM"],
        // Without a sandbox, which needs root or a kernel that lets users create one: only pages of
        // our own are opened.
        "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"],
    });
    if scripts == Scripts::Off {
        options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
    }
    let mut wanted = Capabilities::new();
    wanted.set("browserName", json!("chrome")).expect("JSON");
    wanted.set("goog:chromeOptions", options).expect("JSON");
    wanted
}
