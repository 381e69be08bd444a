//! Pages: the frame of each, and how text gets into it.

use crate::flash::Flash;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use std::fmt::{self, Display};

/// Text as HTML shows it: what a person typed can be no markup.
pub struct Text<'t>(pub &'t str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            _ => write!(f, "{letter}"),
        })
    }
}

/// A page with its frame: who is logged in, and what is to be said once.
pub fn page(
    title: &str,
    user: Option<&str>,
    flash: Option<Flash>,
    body: impl Display,
) -> Html<String> {
    let links = match user {
        Some(name) => format!(
            r#"<a href="/">Home</a><a href="/devices">My devices</a><span class="who">{}</span>"#,
            Text(name)
        ),
        None => r#"<a href="/log-in">Log in</a><a href="/sign-up">Sign up</a>"#.to_owned(),
    };
    let said = flash.map(|flash| flash.to_string()).unwrap_or_default();
    Html(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · haybox sessions</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><a class="brand" href="/">haybox <b>sessions</b></a><nav>{links}</nav></header>
<main>
{said}
{body}
</main>
<footer>Sessions live in this process; there is no other server.</footer>
</body>
</html>
"#
    ))
}

/// A page that says what is wrong, in one sentence.
pub fn refused(status: StatusCode, sentence: &str) -> Response {
    let body = format!(
        r#"<section class="card narrow"><h1>{}</h1><p>{}</p><p><a href="/">Back to the start</a></p></section>"#,
        status.canonical_reason().unwrap_or("Error"),
        Text(sentence)
    );
    (status, page("Error", None, None, body)).into_response()
}

pub async fn not_found() -> Response {
    refused(StatusCode::NOT_FOUND, "There is no such page.")
}

/// Something of ours has failed: the log is told what, the person only that.
pub struct Failure(crate::Error);

impl<E: Into<crate::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("error: {}", self.0);
        let sentence = "That did not work, and it is our fault. Please try again.";
        refused(StatusCode::INTERNAL_SERVER_ERROR, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_typed_is_no_markup() {
        let shown = Text("<script>alert('1' & \"2\")</script>").to_string();
        assert_eq!(
            shown,
            "&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;"
        );
    }
}
