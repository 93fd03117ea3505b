//! REST, every row of the contract.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, event_body};

async fn problem(answer: reqwest::Response) -> (StatusCode, String) {
    let status = answer.status();
    let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let body = answer.text().await.unwrap();
    assert_eq!(media_type, "application/problem+json", "{body}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["status"], status.as_u16());
    (status, problem["detail"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_back_as_it_went_in() {
    let server = Server::start(&[], &[]).await;
    let client = Client::new();
    let body = json!({
        "source": "shop/é", "type": "order.placed", "subject": "user-1 %_", "time": "2024-05-01T12:00:00.5+02:00",
        "data": "AAECAwT/", "colour": "ignored",
    });
    let answer = client.post(server.at("/events")).json(&body).send().await.unwrap();
    assert_eq!((answer.status(), answer.text().await.unwrap().as_str()), (StatusCode::OK, r#"{"id":1}"#));
    let answer = client.get(server.at("/events/get?id=1")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(
        answer.text().await.unwrap(),
        r#"{"id":1,"source":"shop/é","type":"order.placed","subject":"user-1 %_","time":"2024-05-01T10:00:00.5Z","data":"AAECAwT/"}"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_curl_and_old_clients_send_is_taken() {
    let server = Server::start(&[], &[]).await;
    let client = Client::new();
    for content_type in [None, Some("application/json; charset=utf-8"), Some("application/x-www-form-urlencoded")] {
        let mut request = client.post(server.at("/events")).body(event_body("s", b"x").to_string());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        assert_eq!(request.send().await.unwrap().status(), 200, "{content_type:?}");
    }
    let request = client.post(server.at("/events")).header("content-type", "text/xml").body("<event/>");
    let (status, detail) = problem(request.send().await.unwrap()).await;
    assert_eq!(status, 415);
    assert!(detail.contains("application/json"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_field_is_named_and_stores_nothing() {
    let server = Server::start(&["--max-event-bytes", "10"], &[]).await;
    let client = Client::new();
    let long = "ü".repeat(256);
    for (field, value) in [
        ("source", json!(null)),
        ("source", json!("")),
        ("source", json!(7)),
        ("source", json!(long)),
        ("type", json!("")),
        ("type", json!("a\nb")),
        ("subject", json!("")),
        ("subject", json!(["s"])),
        ("subject", json!(long)),
        ("data", json!(null)),
        ("data", json!({"a": 1})),
        ("data", json!("not base64")),
        ("data", json!("YQ")),
        ("time", json!("yesterday")),
        ("time", json!(1_700_000_000)),
    ] {
        let mut body = event_body("s", b"x");
        body[field] = value.clone();
        let (status, detail) = problem(client.post(server.at("/events")).json(&body).send().await.unwrap()).await;
        assert_eq!(status, 400, "{field} {value}: {detail}");
        assert!(detail.contains(field), "{field} {value}: {detail}");
    }
    for field in ["source", "type", "subject", "data"] {
        let mut body = event_body("s", b"x");
        body.as_object_mut().unwrap().remove(field);
        let (status, detail) = problem(client.post(server.at("/events")).json(&body).send().await.unwrap()).await;
        assert!(status == 400 && detail.contains(field), "{field}: {detail}");
    }
    for body in ["", "{", "[1]", "null", "\"text\"", "{\"source\":\"\u{fffd}"] {
        let (status, _) = problem(client.post(server.at("/events")).body(body).send().await.unwrap()).await;
        assert_eq!(status, 400, "{body}");
    }
    let too_large = client.post(server.at("/events")).json(&event_body("s", &[0; 11])).send().await.unwrap();
    let (status, detail) = problem(too_large).await;
    assert!(status == 413 && detail.contains("10"), "{detail}");
    let huge = client.post(server.at("/events")).body(vec![b' '; 8 << 20]).send().await.unwrap();
    assert_eq!(problem(huge).await.0, 413);
    // Nothing of it is stored, and the limit itself is allowed.
    assert_eq!(server.append("s", &[0; 10]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_attributes_are_allowed() {
    let server = Server::start(&[], &[]).await;
    let longest = "😀".repeat(255);
    let body = json!({ "source": longest, "type": longest, "subject": longest, "data": "" });
    let answer = Client::new().post(server.at("/events")).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let event: Value = Client::new().get(server.at("/events/get?id=1")).send().await.unwrap().json().await.unwrap();
    assert_eq!((event["subject"].as_str(), event["data"].as_str()), (Some(longest.as_str()), Some("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_parameter_is_named() {
    let server = Server::start(&[], &[]).await;
    let long = "s".repeat(256);
    for (path, name) in [
        ("/events/get", "id"),
        ("/events/get?id=", "id"),
        ("/events/get?id=0", "id"),
        ("/events/get?id=-1", "id"),
        ("/events/get?id=1.5", "id"),
        ("/events/get?id=9223372036854775808", "id"),
        ("/events/get?id=1&id=2", "id"),
        ("/events/historic", "subject"),
        ("/events/historic?subject=", "subject"),
        (&format!("/events/historic?subject={long}"), "subject"),
        ("/events/historic?subject=%00", "subject"),
        ("/events/historic?subject=s&from_id=x", "from_id"),
        ("/events/historic?subject=s&from_id=-1", "from_id"),
        ("/events/historic?subject=s&from_id=9223372036854775808", "from_id"),
        ("/events/historic?subject=s&recursive=maybe", "recursive"),
        ("/events/historic?subject=s&limit=0", "limit"),
        ("/events/historic?subject=s&limit=1001", "limit"),
        ("/events/historic?subject=s&limit=ten", "limit"),
        ("/events/stream", "subject"),
        ("/events/stream?subject=s&from_id=x", "from_id"),
        ("/events/stream?subject=s&recursive=2", "recursive"),
    ] {
        let (status, detail) = problem(Client::new().get(server.at(path)).send().await.unwrap()).await;
        assert!(status == 400 && detail.contains(name), "{path}: {status} {detail}");
    }
    let request = Client::new().get(server.at("/events/stream?subject=s")).header("last-event-id", "x");
    let (status, detail) = problem(request.send().await.unwrap()).await;
    assert!(status == 400 && detail.to_lowercase().contains("last-event-id"), "{detail}");
    let (status, detail) = problem(Client::new().post(server.at("/subjects/delete")).send().await.unwrap()).await;
    assert!(status == 400 && detail.contains("subject"), "{detail}");
    let answer = Client::new().get(server.at("/events/historic?subject=s&from_id=9223372036854775807&limit=1000"));
    assert_eq!(answer.send().await.unwrap().text().await.unwrap(), r#"{"events":[],"has_more":false}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_pages_are_exact() {
    let server = Server::start(&[], &[]).await;
    for number in 0..5 {
        server.append(if number % 2 == 0 { "user-1" } else { "User-1" }, b"x").await;
    }
    server.append("user_1", b"x").await;
    let ids = async |query: &str| {
        let answer = Client::new().get(server.at(&format!("/events/historic?{query}"))).send().await.unwrap();
        let page: Value = answer.json().await.unwrap();
        let ids: Vec<_> =
            page["events"].as_array().unwrap().iter().map(|event| event["id"].as_i64().unwrap()).collect();
        (ids, page["has_more"].as_bool().unwrap())
    };
    assert_eq!(ids("subject=user-1").await, (vec![1, 3, 5], false));
    assert_eq!(ids("subject=user-1&limit=2").await, (vec![1, 3], true));
    assert_eq!(ids("subject=user-1&limit=3").await, (vec![1, 3, 5], false));
    assert_eq!(ids("subject=user-1&from_id=3").await, (vec![5], false));
    assert_eq!(ids("subject=user&recursive=true").await, (vec![1, 3, 5, 6], false));
    assert_eq!(ids("subject=user_&recursive=1").await, (vec![6], false));
    assert_eq!(ids("subject=user-1&subject=User-1").await, (vec![1, 2, 3, 4, 5], false));
    assert_eq!(ids("recursive=true&subject=&limit=6").await, (vec![1, 2, 3, 4, 5, 6], false));
    assert_eq!(ids("recursive=true&type=other").await, (vec![], false));
    assert_eq!(ids("recursive=true&type=made&limit=1").await, (vec![1], true));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_says_how_many_and_ids_are_not_reused() {
    let server = Server::start(&[], &[]).await;
    for subject in ["a", "b", "a", "ab"] {
        server.append(subject, b"x").await;
    }
    let delete = async |query: &str| {
        let answer = Client::new().post(server.at(&format!("/subjects/delete?{query}"))).send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(delete("subject=a&from_id=2").await, r#"{"status":"ok","deleted":1}"#);
    assert_eq!(delete("subject=a&recursive=true").await, r#"{"status":"ok","deleted":2}"#);
    assert_eq!(delete("subject=a").await, r#"{"status":"ok","deleted":0}"#);
    let subjects = Client::new().get(server.at("/subjects")).send().await.unwrap();
    assert_eq!(subjects.text().await.unwrap(), r#"["b"]"#);
    let gone = Client::new().get(server.at("/events/get?id=1")).send().await.unwrap();
    assert_eq!(problem(gone).await.0, 404);
    assert_eq!(server.append("a", b"x").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_are_listed_in_byte_order_beyond_one_page() {
    let server = Server::start(&[], &[]).await;
    let mut wanted: Vec<String> = (0..1_100).map(|number| format!("s{number}")).collect();
    for subject in &wanted {
        server.append(subject, b"x").await;
    }
    wanted.sort();
    let listed = Client::new().get(server.at("/subjects")).send().await.unwrap();
    assert_eq!(listed.json::<Vec<String>>().await.unwrap(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_are_exact() {
    let server = Server::start(&[], &[]).await;
    for (method, path, status, allow) in [
        (Method::GET, "/nowhere", 404, None),
        (Method::GET, "/events", 405, Some("POST,OPTIONS")),
        (Method::DELETE, "/events/get", 405, Some("GET,HEAD")),
        (Method::GET, "/subjects/delete", 405, Some("POST")),
        (Method::PUT, "/health", 405, Some("GET,HEAD")),
    ] {
        let answer = Client::new().request(method.clone(), server.at(path)).send().await.unwrap();
        let allowed = answer.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), allowed.as_deref()), (status, allow), "{method} {path}");
        problem(answer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn public_pages_are_open_and_everything_else_asks_for_the_token() {
    let server = Server::start(&[], &[("AUTH_TOKEN", "s3cret")]).await;
    let client = Client::new();
    for path in ["/", "/health", "/livez", "/readyz", "/metrics", "/openapi.yaml"] {
        assert_eq!(client.get(server.at(path)).send().await.unwrap().status(), 200, "{path}");
    }
    let calls = [
        (Method::POST, "/events"),
        (Method::GET, "/events/get?id=1"),
        (Method::GET, "/events/stream?subject=s"),
        (Method::GET, "/events/historic?subject=s"),
        (Method::GET, "/subjects"),
        (Method::POST, "/subjects/delete?subject=s"),
        (Method::GET, "/nowhere"),
    ];
    for (method, path) in calls {
        let send = async |token: Option<&str>| {
            let mut request = client.request(method.clone(), server.at(path));
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            request.send().await.unwrap()
        };
        for token in [None, Some("wrong"), Some("Bearer wrong"), Some("Basic s3cret")] {
            let answer = send(token).await;
            assert_eq!(answer.headers().get("www-authenticate").unwrap(), "Bearer");
            assert_eq!(problem(answer).await.0, 401, "{path} {token:?}");
        }
        for token in ["s3cret", "Bearer s3cret"] {
            assert_ne!(send(Some(token)).await.status(), 401, "{path} {token}");
        }
    }
}
