//! Sign up, log in, log out.

use crate::app::App;
use crate::csrf::{self, OwnForm};
use crate::devices::{self, AGENT};
use crate::flash::Flash;
use crate::page::{Failure, Text, page};
use crate::storage::USER;
use crate::users::Refusal;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Redirect, Response};
use tower_sessions::Session;

type Answer = Result<Response, Failure>;

/// Who is logged in.
pub async fn user(session: &Session) -> Result<Option<String>, Failure> {
    Ok(session.get(USER).await?)
}

pub async fn home(session: Session, State(app): State<App>) -> Answer {
    let Some(name) = user(&session).await? else {
        return welcome(&session).await;
    };
    let visits: u64 = session.get("visits").await?.unwrap_or(0) + 1;
    session.insert("visits", visits).await?;
    let devices = app.sessions.of_owner(&name).len();
    let csrf = csrf::field(&session).await?;
    let body = format!(
        r#"<section class="card">
<h1>Hello, {name}</h1>
<p class="figures"><span><b id="visits">{visits}</b> visits in this session</span>
<span><b id="devices">{devices}</b> <a href="/devices">devices</a> logged in</span></p>
<div class="row">
<form method="post" action="/log-out">{csrf}<button>Log out</button></form>
<form method="post" action="/log-out-everywhere">{csrf}<button class="quiet">Log out everywhere</button></form>
</div>
</section>"#,
        name = Text(&name),
    );
    let flash = Flash::take(&session).await?;
    Ok(page("Home", Some(&name), flash, body).into_response())
}

async fn welcome(session: &Session) -> Answer {
    let body = r#"<section class="card">
<h1>Sessions without a server</h1>
<p>You log in, and the session is kept in the memory of this very process: typed, bounded, gone when
its time is over. Try it from two browsers at once.</p>
<p class="row"><a class="button" href="/sign-up">Sign up</a><a class="button quiet" href="/log-in">Log in</a></p>
</section>"#;
    let flash = Flash::take(session).await?;
    Ok(page("Welcome", None, flash, body).into_response())
}

pub async fn sign_up_form(session: Session) -> Result<Html<String>, Failure> {
    form(
        &session,
        "Sign up",
        "new-password",
        "Have an account? <a href=\"/log-in\">Log in</a>",
    )
    .await
}

pub async fn log_in_form(session: Session) -> Result<Html<String>, Failure> {
    form(
        &session,
        "Log in",
        "current-password",
        "New here? <a href=\"/sign-up\">Sign up</a>",
    )
    .await
}

async fn form(
    session: &Session,
    title: &str,
    kind: &str,
    other: &str,
) -> Result<Html<String>, Failure> {
    let csrf = csrf::field(session).await?;
    let flash = Flash::take(session).await?;
    let body = format!(
        r#"<section class="card narrow">
<h1>{title}</h1>
<form method="post">{csrf}
<label>Name<input name="name" required maxlength="32" autocomplete="username" autofocus></label>
<label>Password<input name="password" type="password" required minlength="8" autocomplete="{kind}"></label>
<button>{title}</button>
</form>
<p class="hint">{other}</p>
</section>"#
    );
    Ok(page(title, None, flash, body))
}

pub async fn sign_up(
    session: Session,
    State(app): State<App>,
    headers: HeaderMap,
    form: OwnForm,
) -> Answer {
    let (name, password) = (form.field("name"), form.field("password"));
    match app.users.sign_up(name, password).await? {
        Some(refusal) => back(&session, &refusal, "/sign-up").await,
        None => enter(&session, name, &headers, "Welcome! Your account is there.").await,
    }
}

pub async fn log_in(
    session: Session,
    State(app): State<App>,
    headers: HeaderMap,
    form: OwnForm,
) -> Answer {
    let (name, password) = (form.field("name"), form.field("password"));
    match app.users.log_in(name, password).await? {
        Some(refusal) => back(&session, &refusal, "/log-in").await,
        None => enter(&session, name, &headers, "You are logged in.").await,
    }
}

async fn back(session: &Session, refusal: &Refusal, to: &str) -> Answer {
    Flash::bad(refusal.sentence()).put(session).await?;
    Ok(Redirect::to(to).into_response())
}

/// Makes a session one that is logged in. Under another id: whoever has slipped the browser an id
/// that he knows, or has seen the one from before, knows nothing now.
async fn enter(session: &Session, name: &str, headers: &HeaderMap, greeting: &str) -> Answer {
    session.cycle_id().await?;
    session.insert(USER, name).await?;
    session.insert(AGENT, devices::browser(headers)).await?;
    session.insert("visits", 0).await?;
    csrf::renew(session).await?;
    Flash::good(greeting).put(session).await?;
    Ok(Redirect::to("/").into_response())
}

pub async fn log_out(session: Session, _: OwnForm) -> Answer {
    session.flush().await?;
    Flash::good("You are logged out.").put(&session).await?;
    Ok(Redirect::to("/").into_response())
}

pub async fn log_out_everywhere(session: Session, State(app): State<App>, _: OwnForm) -> Answer {
    let name = user(&session).await?;
    let ended = name.map_or(0, |name| app.sessions.end_all(&name));
    session.flush().await?;
    Flash::good(format!("You are logged out on {ended} devices."))
        .put(&session)
        .await?;
    Ok(Redirect::to("/").into_response())
}
