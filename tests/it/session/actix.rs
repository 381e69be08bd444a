//! The face for actix-session, without a server.

use super::*;
use actix_session::storage::{SessionKey, SessionStore};

const TTL: time::Duration = time::Duration::hours(1);

fn state(user: &str) -> HashMap<String, String> {
    HashMap::from([("user".to_owned(), format!("\"{user}\""))])
}

fn copy(key: &SessionKey) -> SessionKey {
    SessionKey::try_from(key.as_ref().to_owned()).unwrap()
}

#[tokio::test]
async fn a_state_comes_back_as_it_was_saved_and_has_its_owner() {
    let sessions = Sessions::builder().owner_key("user").build().unwrap();
    let key = sessions.save(state("ada"), &TTL).await.unwrap();
    assert_eq!(sessions.load(&key).await.unwrap(), Some(state("ada")));
    assert_eq!(sessions.of_owner("ada").len(), 1);
    let key = sessions.update(key, state("bob"), &TTL).await.unwrap();
    assert_eq!(sessions.load(&key).await.unwrap(), Some(state("bob")));
    assert_eq!(sessions.end_all("bob"), 1);
    assert_eq!(sessions.load(&key).await.unwrap(), None);
    let foreign = SessionKey::try_from("no id of ours".to_owned()).unwrap();
    assert_eq!(sessions.load(&foreign).await.unwrap(), None);
    sessions.delete(&foreign).await.unwrap();
}

#[tokio::test]
async fn an_update_during_a_log_out_starts_no_session_one_after_the_expiry_does() {
    let (sessions, time) = store(|builder| builder);
    let ended = sessions.save(state("ada"), &TTL).await.unwrap();
    sessions.delete(&ended).await.unwrap();
    let same = sessions
        .update(copy(&ended), state("ada"), &TTL)
        .await
        .unwrap();
    assert_eq!(same, ended);
    assert!(sessions.load(&same).await.unwrap().is_none() && sessions.is_empty());

    let expired = sessions.save(state("ada"), &TTL).await.unwrap();
    time.advance(HOUR);
    let anew = sessions
        .update(copy(&expired), state("ada"), &TTL)
        .await
        .unwrap();
    assert_ne!(anew, expired);
    assert_eq!(sessions.load(&anew).await.unwrap(), Some(state("ada")));
}

#[tokio::test]
async fn an_update_starts_no_session_of_somebody_who_was_logged_in() {
    let day = |builder: SessionsBuilder| builder.owner_key("user").absolute_timeout(HOUR / 2);
    let (sessions, time) = store(day);
    let expired = sessions.save(state("ada"), &TTL).await.unwrap();
    time.advance(HOUR / 2);
    let same = sessions
        .update(copy(&expired), state("ada"), &TTL)
        .await
        .unwrap();
    assert_eq!(same, expired);
    assert!(sessions.load(&same).await.unwrap().is_none());
    assert!(sessions.of_owner("ada").is_empty());

    let nobody = HashMap::from([("cart".to_owned(), "[1]".to_owned())]);
    let anew = sessions.update(same, nobody.clone(), &TTL).await.unwrap();
    assert_eq!(sessions.load(&anew).await.unwrap(), Some(nobody));
}

#[tokio::test]
async fn the_time_of_a_session_can_be_set_anew() {
    let (sessions, time) = store(|builder| builder);
    let key = sessions.save(state("ada"), &TTL).await.unwrap();
    time.advance(MINUTE * 59);
    sessions.update_ttl(&key, &TTL).await.unwrap();
    time.advance(MINUTE * 59);
    assert!(sessions.load(&key).await.unwrap().is_some());
    time.advance(MINUTE);
    assert!(sessions.load(&key).await.unwrap().is_none());
}
