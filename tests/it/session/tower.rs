//! The face for tower-sessions, without a server.

use super::*;
use serde_json::{Value, json};
use std::time::SystemTime;
use time::OffsetDateTime;
use tower_sessions_core_0_15::session::{Id, Record};
use tower_sessions_core_0_15::session_store::{Error, ExpiredDeletion, SessionStore};

/// A record of this data that its framework has expire in an hour.
fn record(data: &[(&str, Value)]) -> Record {
    Record {
        id: Id(42),
        data: data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
        expiry_date: OffsetDateTime::now_utc() + HOUR,
    }
}

fn at_real_wall_time(
    set: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
) -> (Sessions, MockClock) {
    let (sessions, time) = store(set);
    time.set_system_time(SystemTime::now());
    (sessions, time)
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_saved_under_an_id_of_the_store() {
    let sessions = Sessions::builder().build().unwrap();
    let mut own = record(&[("cart", json!(["hay", {"pieces": 3}]))]);
    sessions.create(&mut own).await.unwrap();
    assert_ne!(own.id, Id(42), "not the one that the record had");
    assert_eq!(sessions.load(&own.id).await.unwrap(), Some(own.clone()));
    own.data.insert("visits".to_owned(), json!(2));
    sessions.save(&own).await.unwrap();
    assert_eq!(sessions.load(&own.id).await.unwrap(), Some(own.clone()));
    sessions.delete(&own.id).await.unwrap();
    assert_eq!(sessions.load(&own.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_save_on_its_way_during_a_log_out_does_not_bring_the_session_back() {
    let sessions = Sessions::builder().build().unwrap();
    let mut own = record(&[]);
    sessions.create(&mut own).await.unwrap();
    let in_flight = sessions.load(&own.id).await.unwrap().unwrap();
    sessions.delete(&own.id).await.unwrap();
    sessions.save(&in_flight).await.unwrap();
    assert_eq!(sessions.load(&own.id).await.unwrap(), None);
    assert_eq!(sessions.stats().too_late, 1);
}

#[tokio::test]
async fn an_id_that_was_never_given_cannot_be_saved_under() {
    let sessions = Sessions::builder().build().unwrap();
    sessions.save(&record(&[])).await.unwrap();
    assert_eq!(sessions.load(&Id(42)).await.unwrap(), None);
}

#[tokio::test]
async fn the_owner_is_what_the_application_stored_under_the_key() {
    let sessions = Sessions::builder().owner_key("user").build().unwrap();
    let mut guest = record(&[]);
    sessions.create(&mut guest).await.unwrap();
    guest.data.insert("user".to_owned(), json!(7));
    sessions.save(&guest).await.unwrap();
    for user in [json!("7"), json!("ada"), json!(null), json!({"name": "7"})] {
        sessions
            .create(&mut record(&[("user", user)]))
            .await
            .unwrap();
    }
    assert_eq!(sessions.of_owner("7").len(), 2);
    assert_eq!(sessions.end_others("7", &guest.id.into()), 1);
    assert_eq!(sessions.of_owner("ada").len(), 1);
    assert!(sessions.load(&guest.id).await.unwrap().is_some());
}

#[tokio::test]
async fn the_expiry_of_the_framework_counts_and_so_does_that_of_the_store() {
    let (sessions, time) = at_real_wall_time(|builder| builder.idle_timeout(MINUTE * 10));
    let mut own = record(&[]);
    sessions.create(&mut own).await.unwrap();
    for _ in 0..6 {
        assert!(sessions.load(&own.id).await.unwrap().is_some());
        time.advance(MINUTE * 9);
    }
    assert!(sessions.load(&own.id).await.unwrap().is_some());
    time.advance(MINUTE * 7);
    assert_eq!(
        sessions.load(&own.id).await.unwrap(),
        None,
        "an hour is over"
    );
    sessions.create(&mut own).await.unwrap();
    time.advance(MINUTE * 10);
    assert_eq!(sessions.load(&own.id).await.unwrap(), None, "idle");
    sessions.delete_expired().await.unwrap();
    assert!(sessions.is_empty());
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_nothing_of_the_data() {
    let sessions = Sessions::builder().max_size(100).build().unwrap();
    let mut own = record(&[("pin", json!("8".repeat(200)))]);
    let error = sessions.create(&mut own).await.unwrap_err();
    assert!(
        matches!(&error, Error::Backend(text) if text.contains("100")),
        "{error}"
    );
    assert!(!error.to_string().contains("888"));
    let id = sessions.start(Content::new("\"8888\"")).unwrap();
    let error = sessions.load(&id.into()).await.unwrap_err();
    assert!(matches!(error, Error::Decode(_)));
    assert!(!error.to_string().contains("888"), "{error}");
}

#[tokio::test]
async fn data_that_could_not_be_read_again_is_refused_when_it_is_saved() {
    let sessions = Sessions::builder().build().unwrap();
    let in_array = |value| json!([value]);
    let in_object = |value| json!({ "a": value });
    let nested = |levels, around: fn(Value) -> Value| {
        let value = (0..levels).fold(json!(7), |value, _| around(value));
        record(&[("flat", json!([1, [2]])), ("deep", value)])
    };
    for around in [in_array as fn(Value) -> Value, in_object] {
        let mut own = nested(126, around);
        sessions.create(&mut own).await.unwrap();
        assert_eq!(sessions.load(&own.id).await.unwrap(), Some(own.clone()));
        for levels in [127, 1_000] {
            let deeper = Record {
                id: own.id,
                ..nested(levels, around)
            };
            let saved = sessions.save(&deeper).await;
            assert!(matches!(saved, Err(Error::Encode(_))), "{levels}");
            let created = sessions.create(&mut deeper.clone()).await;
            assert!(matches!(created, Err(Error::Encode(_))), "{levels}");
        }
        assert_eq!(sessions.load(&own.id).await.unwrap(), Some(own));
    }
    assert_eq!(sessions.len(), 2);
}
