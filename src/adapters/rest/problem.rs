//! Renders rows of the error table as `application/problem+json`. Decides nothing.
//!
//! Source: RFC 9457, "Problem Details for HTTP APIs".

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::adapters::api_error::{ApiError, ApiErrorKind, Member};

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    members: Map<String, Value>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let row = self.kind.row();
        let problem = Problem {
            r#type: format!("urn:eventsdb:problem:{}", row.slug),
            title: row.title,
            status: row.http_status,
            detail: &self.detail,
            members: self.members.iter().map(member).collect(),
        };
        let body = serde_json::to_vec(&problem).expect("texts and a number are always JSON");
        let status = StatusCode::from_u16(row.http_status).expect("the table holds HTTP statuses");
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = row.retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == ApiErrorKind::Unauthenticated {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn member(member: &Member) -> (String, Value) {
    let (name, value) = match member {
        Member::Subject(subject) => ("subject", subject.as_str().into()),
        Member::LastPosition(last) => ("last_position", (*last).into()),
        Member::Position(position) => ("position", (*position).into()),
    };
    (name.to_owned(), value)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::domain::append::AppendRefusal;
    use crate::domain::attribute::Subject;
    use crate::domain::position::Position;
    use crate::ports::event_repository::ReadError;

    async fn render(error: ApiError) -> (http::response::Parts, Value) {
        let (head, body) = error.into_response().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn problem_says_what_the_row_says() {
        let (head, body) = render(ApiError::invalid("from_id", "must be a number")).await;
        assert_eq!(head.status, 400);
        assert_eq!(head.headers[CONTENT_TYPE], "application/problem+json");
        assert!(!head.headers.contains_key(RETRY_AFTER));
        let expected = serde_json::json!({
            "type": "urn:eventsdb:problem:invalid-argument",
            "title": "Invalid argument",
            "status": 400,
            "detail": "from_id must be a number",
        });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn what_may_be_repeated_says_when_and_hides_its_cause() {
        let fault = std::io::Error::other("root:secret@db refused");
        let (head, body) = render(ReadError::Unavailable(fault.into()).into()).await;
        assert_eq!(head.status, 503);
        assert_eq!(head.headers[RETRY_AFTER], "1");
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn failed_precondition_names_the_subject_and_its_last_position() {
        for (last, position) in [(None, Value::Null), (Position::new(7).ok(), 7.into())] {
            let subject = Subject::from_stored("a \"b\"".to_owned());
            let (head, body) = render(AppendRefusal::Precondition { subject, last }.into()).await;
            assert_eq!(head.status, 412);
            assert_eq!((&body["subject"], &body["last_position"]), (&"a \"b\"".into(), &position));
            assert!(body["detail"].as_str().unwrap().starts_with("precondition failed: "), "{body}");
        }
    }

    #[tokio::test]
    async fn taken_id_names_the_event_that_has_it() {
        let (head, body) = render(AppendRefusal::IdConflict { index: 2, position: Position::FIRST }.into()).await;
        assert_eq!(head.status, 409);
        assert_eq!((&body["position"], body.get("subject")), (&1.into(), None));
    }

    #[tokio::test]
    async fn refused_caller_is_told_the_scheme() {
        let (head, _) = render(ApiError::new(ApiErrorKind::Unauthenticated, "no token")).await;
        assert_eq!(head.status, 401);
        assert_eq!(head.headers[WWW_AUTHENTICATE], "Bearer");
    }
}
