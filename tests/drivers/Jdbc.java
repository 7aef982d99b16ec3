// pgjdbc.
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Objects;
import java.util.Properties;
import org.postgresql.PGConnection;

public class Jdbc {
  interface Action { void run() throws Exception; }

  static final long BASE = Long.parseLong(System.getenv("DRIVER_BASE"));
  static boolean failed = false;
  static Connection db;

  static void check(String name, Action action) {
    try {
      action.run();
      System.out.println("ok - " + name);
    } catch (Exception | AssertionError error) {
      failed = true;
      System.out.println("not ok - " + name + ": " + String.valueOf(error).replaceAll("\\s+", " "));
    }
  }

  static void equal(Object found, Object expected) {
    if (!Objects.equals(found, expected)) throw new AssertionError("found " + found + ", expected " + expected);
  }

  static void raises(String sqlstate, Action action) throws Exception {
    try {
      action.run();
    } catch (SQLException error) {
      equal(error.getSQLState(), sqlstate);
      return;
    }
    throw new AssertionError("no error instead of " + sqlstate);
  }

  static Connection connect(String... options) throws SQLException {
    Properties properties = new Properties();
    properties.setProperty("user", System.getenv("PGUSER"));
    properties.setProperty("password", System.getenv("PGPASSWORD"));
    properties.setProperty("connectTimeout", "10");
    properties.setProperty("socketTimeout", "60");
    properties.setProperty("sslmode", "disable");
    for (int i = 0; i < options.length; i += 2) properties.setProperty(options[i], options[i + 1]);
    String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
    return DriverManager.getConnection(url, properties);
  }

  static int update(String sql, Object... values) throws SQLException {
    try (PreparedStatement statement = db.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
      return statement.executeUpdate();
    }
  }

  // The first column of the first row, or null if there is none.
  static Object value(String sql, Object... values) throws SQLException {
    try (PreparedStatement statement = db.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
      try (ResultSet rows = statement.executeQuery()) {
        return rows.next() ? rows.getObject(1) : null;
      }
    }
  }

  static void data() {
    check("crud by key", () -> {
      for (long id = BASE; id < BASE + 20; id++) {
        update("delete from items where id = ?", id);
        equal(update("insert into items (id, owner_id, name, qty) values (?, ?, ?, ?)", id, 1L, "n " + id, 5), 1);
        equal(value("select name from items where id = ?", id), "n " + id);
        equal(update("update items set qty = qty + 1 where id = ?", id), 1);
        equal(value("delete from items where id = ? returning qty", id), 6);
        equal(value("select qty from items where id = ?", id), null);
      }
    });

    check("values", () -> {
      String big = "é漢".repeat(200_000);
      update("insert into items (id, owner_id, name, data) values (?, ?, ?, ?::jsonb)", BASE, null, big, "{\"a\": [1, null]}");
      equal(value("select owner_id from items where id = ?", BASE), null);
      equal(value("select name from items where id = ?", BASE), big);
      equal(value("select data::text from items where id = ?", BASE), "{\"a\": [1, null]}");
    });

    check("prepared statements", () -> {
      // The fifth execution turns it into a named statement with binary results.
      try (PreparedStatement insert = db.prepareStatement("insert into items (id, qty) values (?, ?)");
           PreparedStatement select = db.prepareStatement("select qty, id from items where id = ?")) {
        for (long id = BASE + 100; id < BASE + 130; id++) {
          update("delete from items where id = ?", id);
          insert.setLong(1, id);
          insert.setInt(2, (int) (id % 1000));
          equal(insert.executeUpdate(), 1);
          select.setLong(1, id);
          try (ResultSet rows = select.executeQuery()) {
            rows.next();
            equal(rows.getInt(1), (int) (id % 1000));
            equal(rows.getLong(2), id);
          }
        }
      }
    });

    check("batch", () -> {
      try (PreparedStatement statement = db.prepareStatement("update items set qty = qty + ? where id = ?")) {
        update("update items set qty = 0 where id = ?", BASE + 100);
        for (int i = 0; i < 50; i++) {
          statement.setInt(1, 1);
          statement.setLong(2, BASE + 100);
          statement.addBatch();
        }
        equal(statement.executeBatch().length, 50);
        equal(value("select qty from items where id = ?", BASE + 100), 50);
      }
    });
  }

  static void transactions() {
    check("transaction commit", () -> {
      db.setAutoCommit(false);
      update("update items set qty = 60 where id = ?", BASE + 100);
      var savepoint = db.setSavepoint("s");
      update("update items set qty = 61 where id = ?", BASE + 100);
      db.rollback(savepoint);
      db.commit();
      equal(value("select qty from items where id = ?", BASE + 100), 60);
      db.commit();
    });

    check("transaction rollback", () -> {
      update("update items set qty = 99 where id = ?", BASE + 100);
      db.rollback();
      equal(value("select qty from items where id = ?", BASE + 100), 60);
      db.commit();
    });

    check("cursor (fetch size)", () -> {
      try (Statement statement = db.createStatement()) {
        statement.setFetchSize(70); // portals with row limits
        int count = 0;
        try (ResultSet rows = statement.executeQuery("select generate_series(1, 500)")) {
          while (rows.next()) count++;
        }
        equal(count, 500);
      }
      db.commit();
    });

    check("failed transaction", () -> {
      raises("22012", () -> value("select 1/0"));
      raises("25P02", () -> value("select 1"));
      db.rollback();
      db.setAutoCommit(true);
      equal(value("select 1"), 1);
    });
  }

  static void rest() {
    check("copy", () -> {
      update("delete from imports where id between ? and ?", BASE, BASE + 999);
      StringBuilder text = new StringBuilder();
      for (int i = 0; i < 1000; i++) text.append(BASE + i).append("\trow ").append(i).append('\n');
      var copy = db.unwrap(PGConnection.class).getCopyAPI();
      equal(copy.copyIn("copy imports (id, name) from stdin", new StringReader(text.toString())), 1000L);
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      copy.copyOut("copy (select * from imports where id between " + BASE + " and " + (BASE + 999) + " order by id) to stdout", out);
      equal(out.toString(), text.toString());
    });

    check("generated keys", () -> {
      java.util.Set<Long> keys = new java.util.HashSet<>();
      try (PreparedStatement insert = db.prepareStatement("insert into numbered (name) values (?)", Statement.RETURN_GENERATED_KEYS)) {
        for (int i = 0; i < 20; i++) {
          insert.setString(1, "n " + i);
          equal(insert.executeUpdate(), 1);
          try (ResultSet rows = insert.getGeneratedKeys()) {
            rows.next();
            keys.add(rows.getLong("id"));
          }
        }
        for (int i = 0; i < 20; i++) {
          insert.setString(1, "b " + i);
          insert.addBatch();
        }
        equal(insert.executeBatch().length, 20);
        try (ResultSet rows = insert.getGeneratedKeys()) {
          while (rows.next()) keys.add(rows.getLong("id"));
        }
      }
      equal(keys.size(), 40);
      for (long id : keys) equal(value("select id from numbered where id = ?", id), id);
    });

    check("errors", () -> {
      raises("23505", () -> update("insert into items (id) values (?)", BASE + 100));
      raises("42601", () -> value("selekt 1"));
      raises("22012", () -> value("select 1/0"));
      equal(value("select 1"), 1);
    });

    check("several shards", () -> {
      for (long id = BASE + 400; id < BASE + 420; id++) {
        update("delete from items where id = ?", id);
        update("insert into items (id, qty) values (?, 0)", id);
      }
      int expected = 1; // all of it, or refused and nothing
      try (PreparedStatement statement = db.prepareStatement("update items set qty = 1 where id = ?")) {
        for (long id = BASE + 400; id < BASE + 420; id++) {
          statement.setLong(1, id);
          statement.addBatch();
        }
        statement.executeBatch();
      } catch (SQLException error) {
        equal(error.getSQLState(), "0A000");
        expected = 0;
      }
      for (long id = BASE + 400; id < BASE + 420; id++) equal(value("select qty from items where id = ?", id), expected);
    });

    check("cancel", () -> {
      try (Statement statement = db.createStatement()) {
        Thread canceller = new Thread(() -> {
          try {
            Thread.sleep(500);
            statement.cancel();
          } catch (Exception error) {
            System.out.println("# " + error);
          }
        });
        canceller.start();
        raises("57014", () -> statement.executeQuery("select pg_sleep(30)"));
        canceller.join();
      }
      equal(value("select 1"), 1);
    });

    check("metadata", () -> {
      try (ResultSet keys = db.getMetaData().getPrimaryKeys(null, "public", "items")) {
        keys.next();
        equal(keys.getString("COLUMN_NAME"), "id");
      }
    });

    check("simple protocol", () -> {
      try (Connection simple = connect("preferQueryMode", "simple"); Statement statement = simple.createStatement();
           ResultSet rows = statement.executeQuery("select qty from items where id = " + (BASE + 100))) {
        rows.next();
        equal(rows.getInt(1), 60);
      }
    });
  }

  public static void main(String[] arguments) {
    check("connect plain", () -> {
      db = connect();
      equal(value("select 1"), 1);
    });
    check("connect TLS", () -> {
      try (Connection secure = connect("sslmode", "verify-full", "sslrootcert", System.getenv("PGSSLROOTCERT"));
           ResultSet rows = secure.createStatement().executeQuery("select 1")) {
        rows.next();
        equal(rows.getInt(1), 1);
      }
    });
    if (db != null) {
      data();
      transactions();
      rest();
      check("close", () -> db.close());
    }
    System.exit(failed ? 1 : 0);
  }
}
