//! Forms that are taken only from our own pages.
//!
//! Each session has a token that its pages put into their forms. Another site can have a browser
//! send a form with the cookie, but it cannot read the token.

use crate::page::{Failure, refused};
use axum::extract::{Form, FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use haybox::session::Token;
use std::collections::HashMap;
use tower_sessions::Session;

const KEY: &str = "csrf";

/// The hidden field for a form of this session. Starts the session, if there is none.
pub async fn field(session: &Session) -> Result<String, Failure> {
    let token = match session.get::<String>(KEY).await? {
        Some(token) => token,
        None => renew(session).await?,
    };
    Ok(format!(
        r#"<input type="hidden" name="csrf" value="{token}">"#
    ))
}

/// Gives the session another token: whoever knew the old one, from before a log-in, knows nothing.
pub async fn renew(session: &Session) -> Result<String, Failure> {
    let token = Token::random()?.to_string();
    session.insert(KEY, &token).await?;
    Ok(token)
}

/// The fields of a form that came with the token of its session.
pub struct OwnForm(HashMap<String, String>);

impl OwnForm {
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl<S: Send + Sync> FromRequest<S> for OwnForm {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let session = request.extensions().get::<Session>().cloned();
        let session = session.expect("forms are behind the layer of the sessions");
        let own = session.get::<String>(KEY).await;
        let own = own.map_err(|error| Failure::from(error).into_response())?;
        let Form(fields) = Form::<HashMap<String, String>>::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        let shown = fields.get("csrf").map_or("", String::as_str);
        let matches = own
            .and_then(|own| Token::parse(&own))
            .is_some_and(|own| own.matches(shown));
        if !matches {
            let sentence = "This form did not come from our page, or the page was too old. \
                            Nothing was done.";
            return Err(refused(StatusCode::FORBIDDEN, sentence));
        }
        Ok(Self(fields))
    }
}
