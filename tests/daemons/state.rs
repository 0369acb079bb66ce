//! What a session has set and prepared is there, whichever server it gets.

use anyhow::Result;
use futures::future::{join_all, try_join_all};

use crate::setup::{Site, sqlstate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_follow_their_session() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let one = site
        .connect("application_name=one options='-c work_mem=5MB'")
        .await?;
    let two = site.connect("application_name=two").await?;
    one.batch_execute("SET search_path TO pg_catalog, public")
        .await?;
    for _ in 0..3 {
        assert_eq!(value(&one, "search_path").await?, "pg_catalog, public");
        assert_eq!(value(&one, "application_name").await?, "one");
        assert_eq!(value(&one, "work_mem").await?, "5MB");
        assert_eq!(value(&two, "search_path").await?, "\"$user\", public");
        assert_eq!(value(&two, "application_name").await?, "two");
        assert_eq!(value(&two, "work_mem").await?, "4MB");
    }
    one.batch_execute("RESET search_path").await?;
    assert_eq!(value(&one, "search_path").await?, "\"$user\", public");
    assert_eq!(site.server_connections()?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reset_is_what_the_login_gave() -> Result<()> {
    for mode in ["transaction", "session"] {
        let site = Site::new(&format!("pool = {{ mode = \"{mode}\", size = 2 }}"))?;
        site.server
            .sql("ALTER ROLE postgres SET lock_timeout = '7s'")?;
        let one = site
            .connect("application_name=one options='-c work_mem=5MB -c search_path=a,b'")
            .await?;
        let two = site.connect("").await?;
        for (reset, in_a_transaction) in [
            ("RESET work_mem", true),
            ("SET work_mem TO DEFAULT", true),
            ("RESET ALL", true),
            ("DISCARD ALL", false),
        ] {
            for opens in [false, true] {
                let set = "SET work_mem = '8MB'";
                for set in [set, "SET search_path = c", "SET lock_timeout = '1s'"] {
                    one.batch_execute(set).await?;
                }
                if opens && in_a_transaction {
                    one.batch_execute("BEGIN").await?;
                }
                one.batch_execute(reset).await?;
                let context = format!("{mode}: {reset}");
                assert_eq!(value(&one, "work_mem").await?, "5MB", "{context}");
                if !reset.contains("work_mem") {
                    assert_eq!(value(&one, "search_path").await?, "a,b", "{context}");
                    assert_eq!(value(&one, "application_name").await?, "one");
                    assert_eq!(value(&one, "lock_timeout").await?, "7s", "{context}");
                }
                if opens && in_a_transaction {
                    one.batch_execute("ROLLBACK").await?;
                    assert_eq!(value(&one, "work_mem").await?, "8MB", "{context}");
                    one.batch_execute(reset).await?;
                }
                assert_eq!(value(&two, "work_mem").await?, "4MB", "{context}");
                assert_eq!(value(&one, "work_mem").await?, "5MB", "{context}");
            }
        }
        one.batch_execute("BEGIN; SET LOCAL work_mem = '9MB'")
            .await?;
        one.batch_execute("SET LOCAL work_mem TO DEFAULT").await?;
        assert_eq!(value(&one, "work_mem").await?, "5MB");
        one.batch_execute("COMMIT").await?;
        // What is sent behind a reset before its answer came finds what the login gave.
        let (reset, found) = futures::join!(
            one.batch_execute("RESET ALL"),
            one.simple_query("SHOW work_mem")
        );
        reset?;
        assert!(format!("{:?}", found?).contains("5MB"));
    }
    Ok(())
}

async fn value(client: &tokio_postgres::Client, name: &str) -> Result<String> {
    let row = client
        .query_one("SELECT current_setting($1)", &[&name])
        .await?;
    Ok(row.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_was_rolled_back_is_not_replayed() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let one = site.connect("").await?;
    let two = site.connect("").await?;
    for (set, fails, end) in [
        ("SET work_mem = '8MB'", None, "ROLLBACK"),
        ("SET work_mem = '9MB'", Some("SELECT 1/0"), "COMMIT"),
        ("SET LOCAL work_mem = '6MB'", None, "COMMIT"),
    ] {
        one.batch_execute("BEGIN").await?;
        one.batch_execute(set).await?;
        if let Some(fails) = fails {
            assert!(one.batch_execute(fails).await.is_err());
        }
        one.batch_execute(end).await?;
        assert_eq!(value(&two, "work_mem").await?, "4MB");
        assert_eq!(value(&one, "work_mem").await?, "4MB", "{set} {end}");
    }
    one.batch_execute("BEGIN").await?;
    one.batch_execute("SET work_mem = '8MB'").await?;
    one.batch_execute("COMMIT").await?;
    assert_eq!(value(&two, "work_mem").await?, "4MB");
    assert_eq!(value(&one, "work_mem").await?, "8MB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_move_keeps_its_server() -> Result<()> {
    let site = Site::new("pool = { size = 8 }")?;
    for (left, still_there) in [
        ("CREATE TEMP TABLE t (a int)", "SELECT count(*) FROM t"),
        (
            "SELECT pg_advisory_lock(7)",
            "SELECT 1 / pg_advisory_unlock(7)::int",
        ),
        ("PREPARE p AS SELECT 1", "EXECUTE p"),
        (
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
            "FETCH c",
        ),
        (
            "SELECT set_config('my.own', 'x', false)",
            "SELECT 1 / (current_setting('my.own') = 'x')::int",
        ),
    ] {
        let client = site.connect("").await?;
        client.batch_execute(left).await?;
        let others = try_join_all((0..6).map(|_| site.connect(""))).await?;
        for other in &others {
            other.batch_execute("SELECT 1").await?;
        }
        client
            .batch_execute(still_there)
            .await
            .map_err(|error| anyhow::anyhow!("{left}: {error:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_and_notifications_reach_their_client() -> Result<()> {
    use tokio_postgres::AsyncMessage;
    let site = Site::new("pool = { size = 2 }")?;
    let words = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        site.proxy.port()
    );
    let (client, mut connection) = tokio_postgres::connect(&words, tokio_postgres::NoTls).await?;
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            let _ = sender.send(match message {
                AsyncMessage::Notification(notification) => notification.payload().to_owned(),
                AsyncMessage::Notice(notice) => notice.message().to_owned(),
                other => format!("{other:?}"),
            });
        }
    });
    let other = site.connect("").await?;
    for (speaks, sql, expected) in [
        (&client, "DO $$ BEGIN RAISE NOTICE 'look'; END $$", "look"),
        (&client, "LISTEN news; NOTIFY news, 'my own'", "my own"),
        (&other, "NOTIFY news, 'hello'", "hello"),
    ] {
        speaks.batch_execute(sql).await?;
        let heard = tokio::time::timeout(crate::setup::SOON, heard.recv()).await?;
        assert_eq!(heard.as_deref(), Some(expected));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_work_on_every_server() -> Result<()> {
    let site = Site::new("pool = { size = 3, statements = 5 }")?;
    let clients = try_join_all((0..12).map(|_| site.connect(""))).await?;
    let each = clients
        .iter()
        .enumerate()
        .map(|(number, client)| async move {
            // More statements than a server keeps, and the same text from several clients.
            let mut statements = Vec::new();
            for text in 0..10 {
                let sql = format!("SELECT $1::int + {text}, $2::text, pg_backend_pid()");
                statements.push(client.prepare(&sql).await?);
            }
            for round in 0..20i32 {
                for (text, statement) in statements.iter().enumerate() {
                    let name = format!("client {number}");
                    let row = client.query_one(statement, &[&round, &name]).await?;
                    assert_eq!(row.get::<_, i32>(0), round + i32::try_from(text)?);
                    assert_eq!(row.get::<_, String>(1), name);
                }
            }
            anyhow::Ok(())
        });
    for outcome in join_all(each).await {
        outcome?;
    }
    let kept = site.psql("SELECT count(*) FROM pg_prepared_statements")?;
    assert!(kept.parse::<u32>()? <= 5, "{kept}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_the_middle_of_prepared_statements_breaks_nothing() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let clients = try_join_all((0..6).map(|_| site.connect(""))).await?;
    let each = clients.iter().map(|client| async move {
        for _ in 0..30 {
            assert!(client.prepare("SELECT nothing FROM nowhere").await.is_err());
            let divide = client.prepare("SELECT 1 / $1::int").await?;
            assert!(client.query_one(&divide, &[&0i32]).await.is_err());
            assert_eq!(
                client.query_one(&divide, &[&1i32]).await?.get::<_, i32>(0),
                1
            );
        }
        anyhow::Ok(())
    });
    for outcome in join_all(each).await {
        outcome?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_queries_are_answered_in_their_order() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let clients = try_join_all((0..4).map(|_| site.connect(""))).await?;
    let each = clients.iter().map(|client| async move {
        let statement = client.prepare("SELECT $1::int").await?;
        let numbers: Vec<i32> = (0..500).collect();
        let answers = numbers.iter().map(|number| async {
            let row = client.query_one(&statement, &[number]).await?;
            anyhow::Ok(row.get::<_, i32>(0))
        });
        assert_eq!(try_join_all(answers).await?, numbers);
        anyhow::Ok(())
    });
    for outcome in join_all(each).await {
        outcome?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_goes_both_ways() -> Result<()> {
    use futures::{SinkExt, StreamExt, pin_mut};
    let site = Site::new("pool = { size = 1 }")?;
    let client = site.connect("").await?;
    client
        .batch_execute("CREATE TABLE t (a int, b text)")
        .await?;
    let line = |number: usize| format!("{number}\t{}\n", "x".repeat(1000));
    let sink = client.copy_in("COPY t FROM STDIN").await?;
    pin_mut!(sink);
    for number in 0..5000 {
        sink.send(bytes::Bytes::from(line(number))).await?;
    }
    assert_eq!(sink.finish().await?, 5000);
    let stream = client
        .copy_out("COPY (SELECT * FROM t ORDER BY a) TO STDOUT")
        .await?;
    pin_mut!(stream);
    let mut read = Vec::new();
    while let Some(bytes) = stream.next().await {
        read.extend_from_slice(&bytes?);
    }
    let written: String = (0..5000).map(line).collect();
    assert!(read == written.as_bytes(), "what came back differs");
    // A COPY that fails leaves the session usable, and the server clean.
    let sink = client.copy_in("COPY t FROM STDIN").await?;
    pin_mut!(sink);
    sink.send(bytes::Bytes::from("no number\tx\n")).await?;
    assert!(sink.finish().await.is_err());
    assert_eq!(
        client
            .query_one("SELECT count(*) FROM t", &[])
            .await?
            .get::<_, i64>(0),
        5000
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_both_ways() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let client = site.connect("").await?;
    let text = "y".repeat(20 << 20);
    let row = client
        .query_one("SELECT $1::text, length($1::text)", &[&text])
        .await?;
    assert_eq!(row.get::<_, i32>(1), 20 << 20);
    assert!(row.get::<_, String>(0) == text);
    let rows = client
        .simple_query(&format!("SELECT length('{text}')"))
        .await?;
    assert!(!rows.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_whose_result_changed_is_prepared_anew() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let (one, two) = (site.connect("").await?, site.connect("").await?);
    one.batch_execute("CREATE TABLE t AS SELECT 1 AS a").await?;
    let old = one.prepare("SELECT * FROM t").await?;
    assert_eq!(one.query_one(&old, &[]).await?.len(), 1);
    two.batch_execute("ALTER TABLE t ADD COLUMN b int").await?;
    // As PostgreSQL does: the client has to prepare it anew.
    let outcome = one.query_one(&old, &[]).await;
    assert_eq!(sqlstate(outcome).as_deref(), Some("0A000"));
    for client in [&one, &two] {
        let new = client.prepare("SELECT * FROM t").await?;
        assert_eq!(client.query_one(&new, &[]).await?.len(), 2);
    }
    Ok(())
}
