// PostgreSQL's JDBC driver at its ordinary work: HOST PORT USER PASSWORD.
import java.io.StringReader;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;

class WithJdbc {
    static String url;
    static Properties who = new Properties();

    public static void main(String[] words) throws Exception {
        url = "jdbc:postgresql://" + words[0] + ":" + words[1] + "/postgres";
        who.setProperty("user", words[2]);
        who.setProperty("password", words.length > 3 ? words[3] : "");
        who.setProperty("loginTimeout", "10");
        who.setProperty("sslmode", "disable");
        // Named prepared statements from the first execution on.
        who.setProperty("prepareThreshold", "1");
        preparedStatements();
        batchesAndErrors();
        cursors();
        copy();
        cancellation();
        manyAtOnce();
    }

    static Connection connect() throws SQLException {
        return DriverManager.getConnection(url, who);
    }

    static void expect(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static int number(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getInt(1);
        }
    }

    static void preparedStatements() throws SQLException {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_rows");
            statement.execute("CREATE TABLE jdbc_rows (a int PRIMARY KEY, b text, c timestamptz)");
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc_rows VALUES (?, ?, now()) RETURNING a");
                 PreparedStatement read = connection.prepareStatement("SELECT b FROM jdbc_rows WHERE a = ?")) {
                for (int turn = 0; turn < 20; turn++) {
                    insert.setInt(1, turn);
                    insert.setString(2, "row " + turn);
                    try (ResultSet rows = insert.executeQuery()) {
                        expect(rows.next() && rows.getInt(1) == turn, "the inserted key");
                    }
                    read.setInt(1, turn);
                    try (ResultSet rows = read.executeQuery()) {
                        expect(rows.next() && rows.getString(1).equals("row " + turn), "row " + turn);
                    }
                }
                expect(read.unwrap(PGStatement.class).isUseServerPrepare(), "prepared on the server");
            }
        }
    }

    static void batchesAndErrors() throws SQLException {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc_rows (a) VALUES (?)")) {
                for (int turn = 1000; turn < 1500; turn++) {
                    insert.setInt(1, turn);
                    insert.addBatch();
                }
                expect(insert.executeBatch().length == 500, "the batch");
                connection.commit();
                insert.setInt(1, 1000);
                try {
                    insert.executeUpdate();
                    throw new AssertionError("a key twice");
                } catch (SQLException error) {
                    expect(error.getSQLState().equals("23505"), error.getSQLState());
                }
            }
            connection.rollback();
            Savepoint savepoint = connection.setSavepoint();
            try (Statement statement = connection.createStatement()) {
                statement.execute("SELECT 1 / 0");
                throw new AssertionError("a division by zero");
            } catch (SQLException error) {
                expect(error.getSQLState().equals("22012"), error.getSQLState());
            }
            connection.rollback(savepoint);
            expect(number(connection, "SELECT count(*) FROM jdbc_rows") == 520, "rows");
            connection.commit();
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            connection.setReadOnly(true);
            expect(number(connection, "SELECT count(*) FROM jdbc_rows") == 520, "rows again");
            connection.commit();
        }
    }

    static void cursors() throws SQLException {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (PreparedStatement read = connection.prepareStatement("SELECT generate_series(1, 5000)")) {
                read.setFetchSize(100);
                long sum = 0;
                try (ResultSet rows = read.executeQuery()) {
                    while (rows.next()) sum += rows.getInt(1);
                }
                expect(sum == 5000L * 5001 / 2, "sum " + sum);
            }
            connection.commit();
        }
    }

    static void copy() throws Exception {
        try (Connection connection = connect()) {
            StringBuilder lines = new StringBuilder();
            for (int turn = 2000; turn < 4000; turn++) lines.append(turn).append("\tx\n");
            long rows = connection.unwrap(PGConnection.class).getCopyAPI()
                .copyIn("COPY jdbc_rows (a, b) FROM STDIN", new StringReader(lines.toString()));
            expect(rows == 2000, "copied " + rows);
        }
    }

    static void cancellation() throws Exception {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            try {
                statement.execute("SELECT pg_sleep(60)");
                throw new AssertionError("it was not cancelled");
            } catch (SQLException error) {
                expect(error.getSQLState().equals("57014"), error.getSQLState());
            }
            expect(number(connection, "SELECT 1") == 1, "one");
        }
    }

    static void manyAtOnce() throws Exception {
        ExecutorService workers = Executors.newFixedThreadPool(8);
        List<Future<Void>> all = new ArrayList<>();
        for (int worker = 0; worker < 8; worker++) {
            int own = worker;
            all.add(workers.submit(() -> {
                try (Connection connection = connect();
                     PreparedStatement read = connection.prepareStatement("SELECT ?::int + ?::int")) {
                    for (int turn = 0; turn < 50; turn++) {
                        read.setInt(1, own);
                        read.setInt(2, turn);
                        try (ResultSet rows = read.executeQuery()) {
                            expect(rows.next() && rows.getInt(1) == own + turn, "a sum");
                        }
                    }
                }
                return null;
            }));
        }
        for (Future<Void> each : all) each.get();
        workers.shutdown();
    }
}
