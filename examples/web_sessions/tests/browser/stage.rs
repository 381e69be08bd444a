//! A server, a driver, and browsers.

use fantoccini::cookies::Cookie;
use fantoccini::wd::{Capabilities, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use std::{env, fs, process};

pub const COOKIE: &str = "__Host-session";
pub const PASSWORD: &str = "correct horse battery";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, a driver, and a folder for what they write.
pub struct Stage {
    pub server: Server,
    driver: Program,
    driver_port: u16,
    folder: PathBuf,
}

impl Stage {
    pub async fn set(arguments: &[&str]) -> Self {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let number = STAGES.fetch_add(1, Relaxed);
        let folder = env::temp_dir().join(format!("web_sessions-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let server = Server::start(&folder, arguments);
        let mut command = Command::new("chromedriver");
        let mut driver = Program::start(command.arg("--port=0"));
        let started = driver.line_with("successfully on port ");
        let driver_port = started.trim_end_matches('.').parse().unwrap();
        Self {
            server,
            driver,
            driver_port,
            folder,
        }
    }

    pub async fn browser(&self) -> Browser {
        self.browser_with(json!({})).await
    }

    /// One with a small screen, at night.
    pub async fn phone(&self) -> Browser {
        let screen = json!({ "width": 390, "height": 780, "pixelRatio": 2.0, "touch": true });
        self.browser_with(json!({ "mobileEmulation": { "deviceMetrics": screen } }))
            .await
    }

    async fn browser_with(&self, mut options: serde_json::Value) -> Browser {
        let mut arguments = vec![
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1100,900",
        ];
        if options.get("mobileEmulation").is_some() {
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        options["args"] = json!(arguments);
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", self.driver_port))
            .await
            .expect("a browser starts");
        Browser {
            client,
            port: self.server.port,
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The browsers end with their driver, but only if it is asked to end.
        let _ = Command::new("kill")
            .arg(self.driver.child.id().to_string())
            .status();
        let _ = self.driver.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The app, as a process of its own.
pub struct Server {
    program: Program,
    pub port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut server = Self::on_port(0, folder, arguments);
        server.arguments = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        server
    }

    fn on_port(port: u16, folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_web_sessions"));
        command
            .args(["--port", &port.to_string(), "--data"])
            .arg(folder)
            .args(arguments);
        let mut program = Program::start(&mut command);
        let port = program.line_with("http://localhost:").parse().unwrap();
        Self {
            program,
            port,
            folder: folder.to_owned(),
            arguments: Vec::new(),
        }
    }

    /// Has the server's clock move.
    pub fn advance(&mut self, seconds: u64) {
        let input = self.program.child.stdin.as_mut().unwrap();
        writeln!(input, "advance {seconds}").unwrap();
        self.program.line_with("advanced");
    }

    /// Ends the server as Ctrl-C does, and waits for that.
    pub fn interrupt(&mut self) {
        let id = self.program.child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(self.program.child.wait().unwrap().success());
    }

    /// Ends the server without a chance to save anything, and starts it anew.
    pub fn kill_and_restart(&mut self) {
        self.program.child.kill().unwrap();
        self.program.child.wait().unwrap();
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        let again = Self::on_port(self.port, &self.folder, &arguments);
        self.program = again.program;
    }
}

/// A process that ends with this value, and says on its output when it is ready.
struct Program {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, output }
    }

    /// What stands after `part` in the first line that has it.
    fn line_with(&mut self, part: &str) -> String {
        let lines = self.output.by_ref().map_while(Result::ok);
        let mut ends = lines.filter_map(|line| Some(line.split_once(part)?.1.to_owned()));
        ends.next()
            .unwrap_or_else(|| panic!("the program ended before it said {part:?}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A person's browser.
pub struct Browser {
    client: Client,
    port: u16,
}

impl Browser {
    pub async fn open(&self, path: &str) {
        self.client
            .goto(&format!("http://localhost:{}{path}", self.port))
            .await
            .unwrap();
    }

    pub async fn sign_up(&self, name: &str) {
        self.enter("/sign-up", name, PASSWORD).await;
    }

    pub async fn log_in(&self, name: &str, password: &str) {
        self.enter("/log-in", name, password).await;
    }

    async fn enter(&self, path: &str, name: &str, password: &str) {
        self.open(path).await;
        for (field, text) in [("[name=name]", name), ("[name=password]", password)] {
            let field = self.client.find(Locator::Css(field)).await.unwrap();
            field.send_keys(text).await.unwrap();
        }
        self.press("main form button").await;
    }

    /// Presses a button, and waits for the next page.
    pub async fn press(&self, button: &str) {
        self.script("window.isOld = true; return ''").await;
        self.client
            .find(Locator::Css(button))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
        let loaded = "return String(!window.isOld && document.readyState === 'complete')";
        for _ in 0..600 {
            let loaded = self.client.execute(loaded, Vec::new()).await;
            if loaded.is_ok_and(|loaded| loaded == "true") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no page came after {button}");
    }

    pub async fn text(&self, element: &str) -> String {
        let element = self.client.find(Locator::Css(element)).await.unwrap();
        element.text().await.unwrap()
    }

    pub async fn has(&self, element: &str) -> bool {
        self.count(element).await > 0
    }

    pub async fn count(&self, element: &str) -> usize {
        self.client
            .find_all(Locator::Css(element))
            .await
            .unwrap()
            .len()
    }

    pub async fn wait_for(&self, element: &str) {
        let wait = self.client.wait().at_most(PATIENCE);
        wait.for_element(Locator::Css(element)).await.unwrap();
    }

    pub async fn script(&self, script: &str) -> String {
        let result = self.client.execute(script, Vec::new()).await.unwrap();
        result
            .as_str()
            .expect("the script returns a text")
            .to_owned()
    }

    pub async fn cookie(&self) -> Option<Cookie<'static>> {
        self.client.get_named_cookie(COOKIE).await.ok()
    }

    pub async fn id(&self) -> String {
        self.cookie()
            .await
            .expect("there is a session")
            .value()
            .to_owned()
    }

    /// Slips an id into the browser, as another page on the same host could.
    pub async fn set_cookie(&self, value: &str) {
        // A script cannot overwrite the one that is there, which no script may see.
        self.client.delete_cookie(COOKIE).await.unwrap();
        let set = format!("document.cookie = '{COOKIE}={value}; path=/; secure'; return ''");
        self.script(&set).await;
        assert_eq!(self.id().await, value);
    }

    pub async fn window(&self) -> WindowHandle {
        self.client.window().await.unwrap()
    }

    pub async fn new_window(&self) {
        let opened = self.client.new_window(false).await.unwrap();
        self.switch_to(opened.handle).await;
    }

    pub async fn switch_to(&self, window: WindowHandle) {
        self.client.switch_to_window(window).await.unwrap();
    }

    /// Leaves a picture of the page, where one is wanted.
    pub async fn shoot(&self, name: &str) {
        if let Some(folder) = env::var_os("SCREENSHOTS") {
            let picture = self.client.screenshot().await.unwrap();
            fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
        }
    }
}
