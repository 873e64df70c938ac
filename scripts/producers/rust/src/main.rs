//! Tell a user that their order has left: append one message to Pushway.
use redis::Commands;
use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, user, order] = args.as_slice() else {
        return Err("usage: append USER ORDER".into());
    };
    let url = env::var("REDIS_URL").unwrap_or("redis://127.0.0.1:6390".into());
    let mut redis = redis::Client::open(url)?.get_connection()?;
    let order: u64 = order.parse()?;
    let text = "Your order is on its way 🚚 Schöne Grüße!";
    let body = serde_json::json!({"order": order, "text": text});
    let fields = [
        ("to", format!("user:{user}")),
        ("body", body.to_string()),
        ("id", format!("order-{order}-shipped")), // appended again with the same id, it is delivered once
    ];
    let entry: String = redis.xadd("push:{0}:in", "*", &fields)?;
    println!("{entry}");
    Ok(())
}
