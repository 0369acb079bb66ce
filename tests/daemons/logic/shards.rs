//! Several primaries, each with a part of the data: the key of a statement or a session says which.

use anyhow::{Context, Result, ensure};
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use tokio_postgres::Client;

use super::site::{Cluster, Options};
use crate::setup::sqlstate;

const KEYS: usize = 24;

/// Two clusters of one server, each a shard.
fn two_shards() -> Result<Cluster> {
    let run = RunDirectory::new()?;
    let servers = vec![
        Postgres::start_new(&run, "db-1", "")?,
        Postgres::start_new(&run, "db-2", "")?,
    ];
    for server in &servers {
        server.sql("CREATE TABLE orders (customer text, n int)")?;
    }
    let options = Options {
        shards: &[0, 1],
        ..Options::default()
    };
    Cluster::around(run, servers, &options)
}

/// What is on a server.
fn customers(cluster: &Cluster, server: usize) -> Result<Vec<String>> {
    let there = cluster.servers[server].sql("SELECT customer FROM orders ORDER BY customer")?;
    Ok(there.lines().map(str::to_owned).collect())
}

async fn count(client: &Client, sql: &str) -> Result<i64> {
    let rows = client.simple_query(sql).await?;
    let count = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    count.context("a count")?.parse().context("a number")
}

/// A key of each shard.
async fn keys_of_both(cluster: &Cluster, client: &Client) -> Result<(usize, usize)> {
    let mut keys = [None, None];
    for key in 0..KEYS {
        let insert = format!("/* lb.shard_key={key} */ INSERT INTO orders VALUES ('{key}', 1)");
        client.batch_execute(&insert).await?;
        let shard = usize::from(customers(cluster, 0)?.is_empty());
        keys[shard].get_or_insert(key);
        cluster.servers[shard].sql("TRUNCATE orders")?;
    }
    Ok((keys[0].context("a key")?, keys[1].context("a key")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_always_leads_to_the_same_shard_however_it_is_said() -> Result<()> {
    let cluster = two_shards()?;
    let client = cluster.connect("").await?;
    for key in 0..KEYS {
        let insert =
            format!("/* lb.shard_key=c{key} */ INSERT INTO orders VALUES ('c{key:02}', 1)");
        client.batch_execute(&insert).await?;
    }
    let (one, two) = (customers(&cluster, 0)?, customers(&cluster, 1)?);
    ensure!(
        one.len() + two.len() == KEYS && one.len() > KEYS / 6 && two.len() > KEYS / 6,
        "{one:?} {two:?}"
    );
    for key in 0..KEYS {
        let sql = format!("SELECT count(*) FROM orders WHERE customer = 'c{key:02}'");
        client
            .batch_execute(&format!("SET lb.shard_key = 'c{key}'"))
            .await?;
        assert_eq!(count(&client, &sql).await?, 1, "by SET");
        client.batch_execute("BEGIN").await?;
        client
            .batch_execute(&format!("INSERT INTO orders VALUES ('c{key:02}', 2)"))
            .await?;
        client.batch_execute("COMMIT").await?;
        assert_eq!(count(&client, &sql).await?, 2, "what it wrote itself");
        client.batch_execute("RESET lb.shard_key").await?;
        let tagged = format!("{sql} AND n < $1 /* lb.shard_key='c{key}' */");
        let row = client.query_one(&tagged, &[&9]).await?;
        assert_eq!(row.get::<_, i64>(0), 2, "prepared, by a comment");
        let other = cluster
            .connect(&format!("options='-c lb.shard_key=c{key}'"))
            .await?;
        assert_eq!(count(&other, &sql).await?, 2, "by its login");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_nothing_is_guessed() -> Result<()> {
    let cluster = two_shards()?;
    let client = cluster.connect("").await?;
    for sql in ["SELECT count(*) FROM orders", "BEGIN", "TRUNCATE orders"] {
        let refused = client.batch_execute(sql).await;
        assert_eq!(sqlstate(refused).as_deref(), Some("55000"), "{sql}");
    }
    let refused = client
        .query("SELECT n FROM orders WHERE n = $1", &[&1])
        .await
        .map(drop);
    assert_eq!(sqlstate(refused).as_deref(), Some("55000"));
    // What concerns no data needs none.
    for sql in ["SET work_mem = '5MB'", "SHOW work_mem", "ROLLBACK"] {
        client.batch_execute(sql).await?;
    }
    let (here, there) = keys_of_both(&cluster, &client).await?;
    let begin = format!("/* lb.shard_key={here} */ BEGIN");
    client.batch_execute(&begin).await?;
    client
        .batch_execute("INSERT INTO orders VALUES ('in a transaction', 1)")
        .await?;
    let elsewhere = format!("SELECT 1 /* lb.shard_key={there} */");
    let refused = client.batch_execute(&elsewhere).await;
    assert_eq!(sqlstate(refused).as_deref(), Some("0A000"));
    ensure!(customers(&cluster, 0)?.is_empty() && customers(&cluster, 1)?.is_empty());
    Ok(())
}
