//! Drives the real app in a real browser, headless: needs `chromium` and `chromedriver`.
//!
//! With `SCREENSHOTS=DIR` pictures of the pages are left there.

mod stage;

use stage::{Browser, Stage};

#[tokio::test]
async fn who_signs_up_is_logged_in_and_counted() {
    let stage = Stage::set(&[]).await;
    let ada = stage.browser().await;
    ada.open("/").await;
    ada.shoot("welcome").await;
    ada.sign_up("ada").await;
    assert_eq!(ada.text("h1").await, "Hello, ada");
    assert!(ada.text(".flash").await.contains("Welcome"));
    assert_eq!(ada.text("#visits").await, "1");
    ada.shoot("home").await;
    ada.open("/").await;
    assert_eq!(ada.text("#visits").await, "2");
    assert!(!ada.has(".flash").await, "said once");

    ada.press("form[action='/log-out'] button").await;
    assert_eq!(ada.text(".flash").await, "You are logged out.");
    ada.log_in("ada", "not the password").await;
    assert!(ada.text(".flash").await.contains("do not go together"));
    ada.shoot("refused").await;
    ada.log_in("ada", stage::PASSWORD).await;
    assert_eq!(ada.text("h1").await, "Hello, ada");
}

#[tokio::test]
async fn the_cookie_is_for_this_server_alone_and_for_no_script() {
    let stage = Stage::set(&[]).await;
    let ada = stage.browser().await;
    ada.sign_up("ada").await;
    let cookie = ada.cookie().await.expect("there is a cookie");
    assert_eq!(cookie.name(), "__Host-session");
    assert_eq!(
        (cookie.http_only(), cookie.secure(), cookie.path()),
        (Some(true), Some(true), Some("/"))
    );
    assert_eq!(
        cookie.same_site().map(|site| site.to_string()),
        Some("Lax".to_owned())
    );
    assert_eq!(cookie.expires(), None, "ends with the browser");
    assert_eq!(cookie.value().len(), 22, "128 bits in base64");
    assert_eq!(ada.script("return document.cookie").await, "");
}

#[tokio::test]
async fn a_log_in_changes_the_id_and_an_id_that_was_slipped_in_opens_nothing() {
    let stage = Stage::set(&[]).await;
    let (ada, mallory) = (stage.browser().await, stage.browser().await);
    // An id of the attacker's making.
    let made_up = "AAAAAAAAAAAAAAAAAAAAAA";
    ada.open("/").await;
    ada.set_cookie(made_up).await;
    ada.open("/log-in").await;
    assert_ne!(ada.id().await, made_up);

    // One that the server gave to the attacker.
    mallory.open("/log-in").await;
    let slipped = mallory.id().await;
    ada.set_cookie(&slipped).await;
    ada.sign_up("ada").await;
    assert_ne!(ada.id().await, slipped);
    mallory.open("/").await;
    assert_eq!(mallory.text("h1").await, "Sessions without a server");
    mallory.set_cookie(made_up).await;
    mallory.open("/devices").await;
    assert_eq!(mallory.text("h1").await, "Log in");

    let before = ada.id().await;
    ada.press("form[action='/log-out'] button").await;
    ada.log_in("ada", stage::PASSWORD).await;
    assert_ne!(ada.id().await, before);
}

#[tokio::test]
async fn a_form_without_its_token_is_refused() {
    let stage = Stage::set(&[]).await;
    let (ada, bob) = (stage.browser().await, stage.browser().await);
    ada.sign_up("ada").await;
    bob.sign_up("bob").await;
    let token_of = "return document.querySelector('[name=csrf]').value";
    let foreign = bob.script(token_of).await;
    for token in ["", "0", foreign.as_str()] {
        let set = format!(
            "document.querySelectorAll('[name=csrf]').forEach(field => field.value = '{token}'); return ''"
        );
        ada.script(&set).await;
        ada.press("form[action='/log-out-everywhere'] button").await;
        assert_eq!(ada.text("h1").await, "Forbidden");
        ada.open("/").await;
        assert_eq!(ada.text("h1").await, "Hello, ada", "nothing was done");
    }
}

#[tokio::test]
async fn a_log_out_in_another_window_and_on_another_device_counts_at_once() {
    let stage = Stage::set(&[]).await;
    let (laptop, phone) = (stage.browser().await, stage.browser().await);
    laptop.sign_up("ada").await;
    phone.log_in("ada", stage::PASSWORD).await;

    // Two windows of one browser.
    let first = laptop.window().await;
    laptop.new_window().await;
    laptop.open("/").await;
    laptop.press("form[action='/log-out'] button").await;
    laptop.switch_to(first).await;
    laptop.open("/devices").await;
    assert_eq!(laptop.text("h1").await, "Log in");

    // Two browsers.
    laptop.log_in("ada", stage::PASSWORD).await;
    laptop.open("/devices").await;
    laptop.shoot("devices").await;
    assert_eq!(laptop.count(".devices li").await, 2);
    assert!(laptop.text(".devices").await.contains("Chrome on Linux"));
    laptop.press("form[action='/devices/log-out'] button").await;
    assert_eq!(laptop.count(".devices li").await, 1);
    phone.open("/devices").await;
    assert_eq!(phone.text("h1").await, "Log in");

    phone.log_in("ada", stage::PASSWORD).await;
    phone
        .press("form[action='/log-out-everywhere'] button")
        .await;
    assert_eq!(
        phone.text(".flash").await,
        "You are logged out on 2 devices."
    );
    laptop.open("/").await;
    assert_eq!(laptop.text("h1").await, "Sessions without a server");
}

#[tokio::test]
async fn who_is_logged_in_stays_so_when_the_server_is_killed() {
    let mut stage = Stage::set(&[]).await;
    let (ada, bob) = (stage.browser().await, stage.browser().await);
    ada.sign_up("ada").await;
    bob.sign_up("bob").await;
    bob.press("form[action='/log-out'] button").await;
    let id = ada.id().await;
    ada.open("/").await;
    assert_eq!(ada.text("#visits").await, "2");

    stage.server.kill_and_restart();
    ada.open("/").await;
    assert_eq!(ada.text("h1").await, "Hello, ada");
    assert_eq!(
        (ada.text("#visits").await.as_str(), ada.id().await),
        ("3", id)
    );
    bob.open("/devices").await;
    assert_eq!(bob.text("h1").await, "Log in", "who was out stays out");

    // The index of owners is there again, too.
    assert_eq!(ada.text("#devices").await, "1");
    ada.press("form[action='/log-out-everywhere'] button").await;
    stage.server.kill_and_restart();
    ada.open("/").await;
    assert_eq!(ada.text("h1").await, "Sessions without a server");
}

#[tokio::test]
async fn who_is_idle_is_logged_out_and_who_is_active_is_not() {
    let mut stage = Stage::set(&["--mock-clock"]).await;
    let (ada, bob) = (stage.browser().await, stage.browser().await);
    ada.sign_up("ada").await;
    bob.sign_up("bob").await;
    for _ in 0..3 {
        stage.server.advance(20 * 60);
        ada.open("/").await;
        assert_eq!(ada.text("h1").await, "Hello, ada");
    }
    bob.open("/").await;
    assert_eq!(bob.text("h1").await, "Sessions without a server");
    for _ in 0..35 {
        stage.server.advance(20 * 60);
        ada.open("/style.css").await;
        ada.open("/").await;
    }
    assert_eq!(
        ada.text("h1").await,
        "Sessions without a server",
        "twelve hours"
    );
}

#[tokio::test]
async fn who_tries_to_log_in_too_often_is_slowed_down() {
    let stage = Stage::set(&[]).await;
    let ada = stage.browser().await;
    ada.open("/log-in").await;
    let status = "let last = 0; \
        for (let i = 0; i < 25; i++) { \
            const request = new XMLHttpRequest(); \
            request.open('POST', '/log-in', false); \
            request.send(); \
            last = request.status; \
        } \
        return String(last)";
    assert_eq!(ada.script(status).await, "429");
    ada.open("/log-in").await;
    assert_eq!(ada.text("h1").await, "Log in", "looking is free");
}

#[tokio::test]
async fn the_server_ends_though_somebody_looks_at_the_debug_page() {
    let mut stage = Stage::set(&["--debug-page"]).await;
    let ada = stage.browser().await;
    ada.open("/debug/cache").await;
    ada.wait_for("#live[data-updates='1']").await;
    stage.server.interrupt();
}

#[tokio::test]
async fn the_debug_page_is_there_when_asked_for_and_moves() {
    let stage = Stage::set(&[]).await;
    let ada = stage.browser().await;
    ada.open("/debug/cache").await;
    assert_eq!(ada.text("h1").await, "Not Found");

    let stage = Stage::set(&["--debug-page"]).await;
    let ada = stage.browser().await;
    ada.sign_up("ada").await;
    ada.open("/debug/cache").await;
    assert_eq!(ada.count("svg polyline.line").await, 4);
    ada.wait_for("#live[data-updates='3']").await;
    assert!(ada.text(".charts").await.contains("Hit ratio"));
    ada.shoot("debug").await;
}

#[tokio::test]
async fn the_pages_fit_a_phone_and_the_dark() {
    let stage = Stage::set(&[]).await;
    let phone = stage.phone().await;
    for path in ["/", "/sign-up", "/log-in"] {
        phone.open(path).await;
        assert_fits(&phone).await;
    }
    phone.sign_up("a-name-of-thirty-two-letters-here").await;
    for path in ["/", "/devices"] {
        phone.open(path).await;
        assert_fits(&phone).await;
        phone
            .shoot(&format!("dark-phone{}", path.replace('/', "-")))
            .await;
    }
}

/// Nothing is wider than the screen, which is as narrow as it says.
async fn assert_fits(browser: &Browser) {
    let narrow = browser.script("return String(window.innerWidth)").await;
    assert_eq!(narrow, "390");
    let wider = "return String(document.documentElement.scrollWidth > window.innerWidth)";
    assert_eq!(
        browser.script(wider).await,
        "false",
        "it has to be scrolled sideways"
    );
}
