//! What the command line says.

use haybox::{Clock, MockClock};
use std::io::BufRead;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

/// What the command line says.
pub struct Options {
    pub address: String,
    pub port: u16,
    pub data: Option<PathBuf>,
    pub debug_page: bool,
    mock_clock: bool,
}

const USAGE: &str = "usage: web_sessions [OPTIONS]
  --address ADDRESS  where to listen (default: 127.0.0.1)
  --port PORT        where to listen (default: 3000; 0 is any that is free)
  --data DIR         where accounts and sessions are kept (default: nowhere)
  --debug-page       show /debug/cache, to anybody
  --mock-clock       for tests: time stands still, but for lines `advance SECONDS` on the input";

impl Options {
    pub fn of(mut arguments: impl Iterator<Item = String>) -> Result<Self, &'static str> {
        let mut options = Self {
            address: "127.0.0.1".to_owned(),
            port: 3000,
            data: None,
            debug_page: false,
            mock_clock: false,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--debug-page" => options.debug_page = true,
                "--mock-clock" => options.mock_clock = true,
                "--address" => options.address = arguments.next().ok_or(USAGE)?,
                "--data" => options.data = Some(arguments.next().ok_or(USAGE)?.into()),
                "--port" => {
                    let port = arguments.next().ok_or(USAGE)?;
                    options.port = port.parse().map_err(|_| USAGE)?;
                }
                _ => return Err(USAGE),
            }
        }
        Ok(options)
    }

    /// The clock that sessions go by.
    pub fn clock(&self) -> Clock {
        if !self.mock_clock {
            return Clock::real();
        }
        let time = MockClock::new();
        time.set_system_time(SystemTime::now());
        let clock = time.clock();
        thread::spawn(move || follow_input(&time));
        clock
    }
}

fn follow_input(time: &MockClock) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let seconds = line
            .strip_prefix("advance ")
            .and_then(|text| text.parse().ok());
        if let Some(seconds) = seconds {
            time.advance(Duration::from_secs(seconds));
            println!("advanced");
        }
    }
}
