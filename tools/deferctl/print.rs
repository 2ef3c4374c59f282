//! Answers as text for people.

use super::Command;
use serde_json::Value;

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn yes(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// 1,234,567 octets as 1.2 MiB.
pub(super) fn size(octets: u64) -> String {
    let units = ["octets", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut rest = octets as f64;
    while rest >= 1024.0 && unit + 1 < units.len() {
        rest /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{octets} octets") } else { format!("{rest:.1} {}", units[unit]) }
}

pub(super) fn answer(command: &Command, answer: &Value) {
    match command {
        Command::Queue { .. } => queue(answer),
        Command::Users { .. } => users(answer),
        Command::Show { .. } => show(answer),
        Command::Why { .. } => why(answer),
        Command::Push { .. } => println!("a push begins"),
        Command::Delete { .. } => {
            let bin = match number(answer, "in_bin_for_s") {
                0 => String::new(),
                seconds => format!("; it stays in the DELETE bin for {seconds} s"),
            };
            println!("{} of {} is deleted{bin}", word(answer, "deleted"), word(answer, "user"));
        }
        Command::Drain { .. } if yes(answer, "drained") => {
            println!("deposits are answered 503, pushes go on; 'deferctl drain --off' ends it");
        }
        Command::Drain { .. } => println!("deposits are taken again"),
        Command::Reload => reload(answer),
        _ => status(answer),
    }
}

fn status(answer: &Value) {
    println!(
        "deferd {}: {}, {} cores{}",
        word(answer, "version"),
        word(answer, "phase"),
        number(answer, "cores"),
        if yes(answer, "drained") { ", drained" } else { "" }
    );
    println!("{} users have messages, {} free on the disk", number(answer, "users"), size(number(answer, "disk_free")));
    if let Some(since) = answer.get("oldest_waiting").and_then(Value::as_str) {
        println!("the oldest message waits since {since}");
    }
    for domain in list(answer, "domains") {
        let octets = size(number(domain, "octets"));
        println!("{}: {} messages, {octets}", word(domain, "domain"), number(domain, "messages"));
    }
    for trouble in list(answer, "troubles").iter().filter_map(Value::as_str) {
        println!("trouble: {trouble}");
    }
}

fn queue(answer: &Value) {
    println!("{}: {} messages, {}", word(answer, "user"), number(answer, "messages"), size(number(answer, "octets")));
    let entries = list(answer, "entries");
    if entries.is_empty() {
        return;
    }
    println!("{:<26}  {:<20}  {:<20}  {:>10}  standing", "id", "accepted", "expires", "octets");
    for entry in entries {
        let id = entry.get("id").and_then(Value::as_str).unwrap_or("(damaged)");
        let flags: Vec<&str> = list(entry, "flags").iter().filter_map(Value::as_str).collect();
        println!(
            "{id:<26}  {:<20}  {:<20}  {:>10}  {}{}{}{}",
            word(entry, "accepted"),
            word(entry, "expires"),
            number(entry, "octets"),
            word(entry, "standing"),
            if flags.is_empty() { "" } else { ", " },
            flags.join(", "),
            entry
                .get("refused")
                .filter(|it| !it.is_null())
                .map_or_else(String::new, |it| format!(": {}", word(it, "why")))
        );
    }
}

fn users(answer: &Value) {
    println!("{:>10}  {:>12}  user", "messages", "on disk");
    for user in list(answer, "users") {
        println!("{:>10}  {:>12}  {}", number(user, "messages"), size(number(user, "octets")), word(user, "user"));
    }
}

fn show(answer: &Value) {
    println!("id            {}", word(answer, "id"));
    println!("user          {}", word(answer, "user"));
    println!("standing      {}", word(answer, "standing"));
    println!("accepted      {}", word(answer, "accepted"));
    println!("expires       {}", word(answer, "expires"));
    println!(
        "on disk       {} octets at {}:{}",
        number(answer, "octets"),
        number(answer, "segment"),
        number(answer, "at")
    );
    println!("content type  {}", word(answer, "content_type"));
    println!("body          {} octets", number(answer, "body_octets"));
    println!("\n{}", word(answer, "body"));
    if yes(answer, "cut") {
        println!("... (--all shows the rest)");
    }
}

fn why(answer: &Value) {
    if let Some(message) = answer.get("message") {
        println!("message         {}, {}", word(answer, "id"), word(message, "standing"));
        println!("accepted        {}, expires {}", word(message, "accepted"), word(message, "expires"));
    }
    if let Some(refused) = answer.get("message").and_then(|message| message.get("refused")).filter(|it| !it.is_null()) {
        println!("refused         {} (counted {} of 3 times)", word(refused, "why"), number(refused, "attempts"));
    }
    println!("user            {}", word(answer, "user"));
    println!("waiting         {} messages, {}", number(answer, "messages"), size(number(answer, "octets")));
    if number(answer, "large") > 0 {
        println!("of these large  {} messages", number(answer, "large"));
    }
    if number(answer, "receiving_large") > 0 {
        println!("coming          large messages, in {} sessions", number(answer, "receiving_large"));
    }
    for (key, what) in [("too_large", "larger than the last client wants"), ("unaccepted", "of no type it takes")] {
        if number(answer, key) > 0 {
            println!("passed over     {} messages {what}", number(answer, key));
        }
    }
    if let Some(at) = answer.get("first_expires").and_then(Value::as_str) {
        println!("first expires   {at}");
    }
    if let Some(stage) = answer.get("pushing").and_then(Value::as_str) {
        println!("push            {stage}");
    }
    match answer.get("presence").filter(|presence| !presence.is_null()) {
        None => println!("presence        nothing published"),
        Some(presence) => {
            let online = if yes(presence, "online") { "online" } else { "offline" };
            let wants = if yes(presence, "wants_deliveries") { "wants deliveries" } else { "deliveries switched off" };
            println!("presence        {online}, {wants}");
            if let Some(at) = presence.get("last_attempt").and_then(Value::as_str) {
                println!("last attempt    {at}: {}", word(presence, "last_outcome"));
                println!("failures        {} in a row", number(presence, "failures"));
            }
            if let Some(at) = presence.get("next_attempt").and_then(Value::as_str) {
                println!("next attempt    {at}");
            }
        }
    }
    for one in list(answer, "summaries") {
        let failing = match number(one, "failures") {
            0 => String::new(),
            failures => format!(", {failures} NOTIFYs in a row were not taken"),
        };
        println!("told of them    a subscriber, until {}{failing}", word(one, "until"));
    }
    println!("because         {}", word(answer, "because"));
}

fn reload(answer: &Value) {
    println!(
        "{}",
        if yes(answer, "policy_changed") { "the new [policy] is in force" } else { "[policy] has not changed" }
    );
    let restart: Vec<&str> = list(answer, "needs_restart").iter().filter_map(Value::as_str).collect();
    if !restart.is_empty() {
        println!("changed too, and in force after a restart only: {}", restart.join(", "));
    }
}
