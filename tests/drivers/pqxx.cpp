// libpqxx 6.
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <pqxx/pqxx>
#include <sstream>
#include <string>
#include <thread>

namespace {

bool failed = false;
const long base = std::atol(std::getenv("DRIVER_BASE"));

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}

void check(const std::string& name, const std::function<void()>& action) {
  try {
    action();
    std::cout << "ok - " << name << std::endl;
  } catch (const std::exception& error) {
    failed = true;
    std::cout << "not ok - " << name << ": " << one_line(error.what()) << std::endl;
  }
}

template <class A, class B>
void equal(const A& found, const B& expected) {
  if (found == expected) return;
  std::ostringstream text;
  text << "found " << found << ", expected " << expected;
  throw std::runtime_error(text.str());
}

void raises(const std::string& sqlstate, const std::function<void()>& action) {
  try {
    action();
  } catch (const pqxx::sql_error& error) {
    equal(error.sqlstate(), sqlstate);
    return;
  }
  throw std::runtime_error("no error instead of " + sqlstate);
}

pqxx::result run(pqxx::connection& db, const std::string& sql) {
  pqxx::nontransaction work(db);
  return work.exec(sql);
}

std::string id(long offset) {
  return std::to_string(base + offset);
}

void data(pqxx::connection& db) {
  check("crud by key", [&] {
    for (long i = 0; i < 20; ++i) {
      run(db, "delete from items where id = " + id(i));
      pqxx::nontransaction work(db);
      equal(work.exec_params("insert into items (id, owner_id, name, qty) values ($1, $2, $3, $4)", base + i, 1, "it's",
                             5)
                .affected_rows(),
            1u);
      equal(work.exec_params("select name from items where id = $1", base + i)[0][0].as<std::string>(), "it's");
      equal(work.exec_params("update items set qty = qty + 1 where id = $1", base + i).affected_rows(), 1u);
      equal(work.exec_params("delete from items where id = $1 returning qty", base + i)[0][0].as<int>(), 6);
    }
  });

  check("values", [&] {
    std::string big;
    for (int i = 0; i < 200'000; ++i) big += "é漢";
    pqxx::nontransaction work(db);
    work.exec_params("insert into items (id, name, data) values ($1, $2, $3)", base, big, "{\"a\": [1, null]}");
    const auto row = work.exec_params("select owner_id, name, data from items where id = $1", base)[0];
    equal(row[0].is_null(), true);
    equal(row[1].as<std::string>() == big, true);
    equal(row[2].as<std::string>(), "{\"a\": [1, null]}");
  });

  check("prepared statements", [&] {
    db.prepare("put", "insert into items (id, qty) values ($1, $2)");
    db.prepare("get", "select qty from items where id = $1");
    for (long i = 100; i < 130; ++i) {
      run(db, "delete from items where id = " + id(i));
      pqxx::nontransaction work(db);
      work.exec_prepared("put", base + i, i);
      equal(work.exec_prepared("get", base + i)[0][0].as<long>(), i);
    }
    db.unprepare("get");
  });

  check("pipeline", [&] {
    pqxx::nontransaction work(db);
    pqxx::pipeline pipe(work);
    pipe.retain(10);
    const auto first = pipe.insert("update items set qty = 1 where id = " + id(100));
    const auto second = pipe.insert("select qty from items where id = " + id(100));
    equal(pipe.retrieve(first).affected_rows(), 1u);
    equal(pipe.retrieve(second)[0][0].as<int>(), 1);
    pipe.complete();
  });
}

void transactions(pqxx::connection& db) {
  check("transaction commit", [&] {
    pqxx::work work(db);
    work.exec("update items set qty = 7 where id = " + id(100));
    {
      pqxx::subtransaction inner(work, "s");
      inner.exec("update items set qty = 8 where id = " + id(100));
      inner.abort();
    }
    work.commit();
    equal(run(db, "select qty from items where id = " + id(100))[0][0].as<int>(), 7);
  });

  check("transaction rollback", [&] {
    {
      pqxx::work work(db);
      work.exec("update items set qty = 9 where id = " + id(100));
      work.abort();
    }
    equal(run(db, "select qty from items where id = " + id(100))[0][0].as<int>(), 7);
  });

  check("failed transaction", [&] {
    // pqxx::work refuses by itself after an error; the server's own refusal shows without it.
    run(db, "begin");
    raises("22012", [&] { run(db, "select 1/0"); });
    raises("25P02", [&] { run(db, "select 1"); });
    run(db, "rollback");
    equal(run(db, "select 1")[0][0].as<int>(), 1);
  });
}

void rest(pqxx::connection& db) {
  check("copy", [&] {
    run(db, "delete from imports where id between " + id(0) + " and " + id(999));
    {
      pqxx::work work(db);
      pqxx::stream_to stream(work, "imports", std::vector<std::string>{"id", "name"});
      for (long i = 0; i < 1000; ++i) stream << std::make_tuple(base + i, "row " + std::to_string(i));
      stream.complete();
      work.commit();
    }
    pqxx::work work(db);
    pqxx::stream_from stream(work, "imports", std::vector<std::string>{"id", "name"});
    std::string line;
    long count = 0;
    while (stream.get_raw_line(line)) {
      const long number = std::atol(line.c_str());
      if (number >= base && number < base + 1000) ++count;
    }
    stream.complete();
    equal(count, 1000);
  });

  check("errors", [&] {
    raises("23505", [&] { run(db, "insert into items (id) values (" + id(100) + ")"); });
    raises("42601", [&] { run(db, "selekt 1"); });
    raises("22012", [&] { run(db, "select 1/0"); });
    equal(run(db, "select 1")[0][0].as<int>(), 1);
  });

  check("several shards", [&] {
    for (long i = 400; i < 420; ++i) {
      run(db, "delete from items where id = " + id(i));
      run(db, "insert into items (id, qty) values (" + id(i) + ", 0)");
    }
    int expected = 1;  // all of it, or refused and nothing
    try {
      pqxx::work work(db);
      for (long i = 400; i < 420; ++i) work.exec("update items set qty = 1 where id = " + id(i));
      work.commit();
    } catch (const pqxx::sql_error& error) {
      equal(error.sqlstate(), "0A000");
      expected = 0;
    }
    for (long i = 400; i < 420; ++i)
      equal(run(db, "select qty from items where id = " + id(i))[0][0].as<int>(), expected);
  });

  check("cancel", [&] {
    std::thread canceller([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      db.cancel_query();
    });
    try {
      raises("57014", [&] { run(db, "select pg_sleep(30)"); });
    } catch (...) {
      canceller.join();
      throw;
    }
    canceller.join();
    equal(run(db, "select 1")[0][0].as<int>(), 1);
  });
}

}  // namespace

int main() {
  check("connect TLS", [] {
    pqxx::connection secure("connect_timeout=10 sslmode=verify-full");  // the CA from PGSSLROOTCERT
    equal(run(secure, "select 1")[0][0].as<int>(), 1);
  });
  try {
    pqxx::connection db("connect_timeout=10 sslmode=disable");
    check("connect plain", [&] { equal(run(db, "select 1")[0][0].as<int>(), 1); });
    data(db);
    transactions(db);
    rest(db);
  } catch (const std::exception& error) {
    failed = true;
    std::cout << "not ok - connect plain: " << one_line(error.what()) << std::endl;
  }
  return failed ? 1 : 0;
}
