//! lb.
fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().collect();
    let r = match args[1].as_str() {
        "agent" => lb_userspace::agent::run(std::path::Path::new(&args[3]), false),
        "ask" => {
            let mut c =
                lb_userspace::control::client::Client::connect(std::path::Path::new(&args[2]))
                    .unwrap();
            match c.ask(&serde_json::from_str(&args[3]).unwrap()) {
                Ok(a) => println!("{}", serde_json::to_string_pretty(&a).unwrap()),
                Err(e) => println!("{e}"),
            }
            Ok(())
        }
        _ => lb_userspace::agent::detach(std::path::Path::new(&args[3])).map(|r| println!("{r:?}")),
    };
    if let Err(e) = r {
        eprintln!("lb: {e:#}");
        std::process::exit(1);
    }
}
