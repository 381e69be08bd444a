//! A chat of threads in rooms: each hears its room, and knows who is there.
//!
//! `cargo run --example chat`
//!
//! Every member is a thread with a subscription to its room. One of them loses its connection in the
//! middle of a sentence: nobody says that it left, its heartbeat just stays away, and the others are
//! told. What was said, and who was online when, is printed at the end.

use haybox::presence::{Change, Presence};
use haybox::pubsub::{Bus, Pattern, Topic};
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
struct Line {
    from: &'static str,
    text: String,
}

struct Chat {
    bus: Bus,
    online: Presence<String, String>,
}

/// A real one would have 30 seconds and a heartbeat every ten.
const TIMEOUT: Duration = Duration::from_millis(300);
const HEARTBEAT: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let online = Presence::builder()
        .timeout(TIMEOUT)
        .sweep_interval(Duration::from_millis(50))
        .build()?;
    let chat = Chat {
        bus: Bus::new(),
        online,
    };
    let comings = chat.online.events();
    let everything = chat
        .bus
        .subscribe_matching::<Line>(&Pattern::new("room.*")?);

    let historian = thread::spawn(move || {
        let mut history = Vec::new();
        let mut there: Vec<String> = Vec::new();
        for event in comings {
            let name = event.member.as_str();
            match event.change {
                Change::Joined => there.push(name.to_owned()),
                Change::Left | Change::TimedOut => there.retain(|other| other != name),
                _ => {}
            }
            let (room, change) = (&event.room, event.change);
            let at = start.elapsed().as_millis();
            history.push(format!(
                "{at:>5} ms  {name} in {room}: {change:?}; online: {}",
                there.join(", ")
            ));
        }
        history
    });

    thread::scope(|threads| {
        let chat = &chat;
        let talks: [(&'static str, &'static str, u32, bool); 4] = [
            ("Ada", "kitchen", 4, true),
            ("Ben", "kitchen", 6, true),
            ("Cleo", "kitchen", 2, false),
            ("Dan", "garden", 3, true),
        ];
        for (name, room, lines, says_goodbye) in talks {
            threads.spawn(move || chat.member(name, room, lines, says_goodbye));
        }
    });
    // Cleo has not said goodbye: her departure is announced though nobody calls.
    while !chat.online.rooms().is_empty() {
        thread::sleep(HEARTBEAT);
    }
    drop(chat);

    println!("what was said:");
    for heard in everything {
        println!(
            "  [{}] {}: {}",
            heard.topic, heard.message.from, heard.message.text
        );
    }
    println!("who was online:");
    for line in historian.join().expect("the historian ends with the chat") {
        println!("  {line}");
    }
    Ok(())
}

impl Chat {
    fn member(&self, name: &'static str, room: &str, lines: u32, says_goodbye: bool) {
        let topic: Topic<Line> = self
            .bus
            .topic(&format!("room.{room}"))
            .expect("rooms carry lines");
        let heard = topic.subscribe();
        let (mut said, mut answered) = (0, 0);
        while said < lines {
            self.online.heartbeat(room, name);
            // Listens between two heartbeats, and then says something.
            match heard.recv_timeout(HEARTBEAT) {
                Ok(line) if line.from != name => answered += 1,
                Ok(_) => {}
                Err(_) => {
                    said += 1;
                    let there = self.online.count(room);
                    let text = format!("line {said}, {there} of us here, {answered} heard");
                    topic.publish(Line { from: name, text });
                }
            }
        }
        if says_goodbye {
            self.online.leave(room, name);
        }
    }
}
