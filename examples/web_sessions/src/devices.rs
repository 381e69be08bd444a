//! Where somebody is logged in.

use crate::account::user;
use crate::app::App;
use crate::csrf::{self, OwnForm};
use crate::flash::Flash;
use crate::page::{Failure, Text, page};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use haybox::session::{self, SessionId};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tower_sessions::Session;

/// The key in a session's data that says which browser it was started with.
pub const AGENT: &str = "agent";

pub async fn list(session: Session, State(app): State<App>) -> Result<Response, Failure> {
    let Some(name) = user(&session).await? else {
        return Ok(Redirect::to("/log-in").into_response());
    };
    let this = this(&session, &app);
    let csrf = csrf::field(&session).await?;
    let devices = app.sessions.of_owner(&name);
    let rows: String = devices
        .iter()
        .map(|device| row(device, this, &csrf))
        .collect();
    let body = format!(
        r#"<section class="card">
<h1>My devices</h1>
<ul class="devices">{rows}</ul>
<form method="post" action="/devices/log-out-others">{csrf}<button class="quiet">Log out everywhere else</button></form>
</section>"#
    );
    let flash = Flash::take(&session).await?;
    Ok(page("My devices", Some(&name), flash, body).into_response())
}

fn row(device: &session::Session, this: Option<u64>, csrf: &str) -> String {
    let public_id = device.public_id();
    let end = if this == Some(public_id) {
        r#"<span class="badge">this device</span>"#.to_owned()
    } else {
        format!(
            r#"<form method="post" action="/devices/log-out">{csrf}<input type="hidden" name="device" value="{public_id}"><button class="quiet small">Log out</button></form>"#
        )
    };
    format!(
        r#"<li><div><b>{}</b><span class="hint">logged in {} · active {}</span></div>{end}</li>"#,
        Text(&agent_of(device)),
        ago(device.created()),
        ago(device.seen()),
    )
}

fn agent_of(device: &session::Session) -> String {
    let data: HashMap<String, serde_json::Value> =
        serde_json::from_str(device.text()).unwrap_or_default();
    let agent = data.get(AGENT).and_then(|agent| agent.as_str());
    agent.unwrap_or("Unknown browser").to_owned()
}

/// The name by which the list of devices knows this session.
fn this(session: &Session, app: &App) -> Option<u64> {
    let id = SessionId::from(session.id()?);
    Some(app.sessions.get(&id)?.public_id())
}

pub async fn log_out(
    session: Session,
    State(app): State<App>,
    form: OwnForm,
) -> Result<Redirect, Failure> {
    let device = form.field("device").parse();
    if let (Some(name), Ok(device)) = (user(&session).await?, device)
        && app.sessions.end_one(&name, device)
    {
        Flash::good("That device is logged out.")
            .put(&session)
            .await?;
    }
    Ok(Redirect::to("/devices"))
}

pub async fn log_out_others(
    session: Session,
    State(app): State<App>,
    _: OwnForm,
) -> Result<Redirect, Failure> {
    if let (Some(name), Some(id)) = (user(&session).await?, session.id()) {
        let ended = app.sessions.end_others(&name, &id.into());
        Flash::good(format!("{ended} other devices are logged out."))
            .put(&session)
            .await?;
    }
    Ok(Redirect::to("/devices"))
}

/// What a person calls the browser that sent a request.
pub fn browser(headers: &HeaderMap) -> String {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    let first = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(part, _)| agent.contains(part));
        found.map(|(_, name)| *name)
    };
    // The order matters: each of them claims to be some of those below.
    let browser = first(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrom", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Mac OS", "macOS"),
        ("Windows", "Windows"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => "Unknown browser".to_owned(),
    }
}

fn ago(time: SystemTime) -> String {
    let past = SystemTime::now().duration_since(time).unwrap_or_default();
    match past {
        _ if past < Duration::from_secs(60) => "just now".to_owned(),
        _ if past < Duration::from_secs(3600) => format!("{} min ago", past.as_secs() / 60),
        _ => format!("{} h ago", past.as_secs() / 3600),
    }
}
