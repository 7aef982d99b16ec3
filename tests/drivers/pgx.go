// pgx, its own interface.
package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

var ctx = context.Background()

func open(options string) *pgx.Conn {
	db, err := pgx.Connect(ctx, connString(options))
	must(err)
	return db
}

func raises(sqlstate string, err error) {
	var pgError *pgconn.PgError
	if !errors.As(err, &pgError) {
		must(errors.New("no error instead of " + sqlstate))
	}
	equal(pgError.Code, sqlstate)
}

func exec(db *pgx.Conn, query string, values ...interface{}) int64 {
	tag, err := db.Exec(ctx, query, values...)
	must(err)
	return tag.RowsAffected()
}

func quantity(db *pgx.Conn, id int64) (qty int) {
	must(db.QueryRow(ctx, "select qty from items where id = $1", id).Scan(&qty))
	return qty
}

func data(db *pgx.Conn) {
	check("crud by key", func() {
		for id := base(); id < base()+20; id++ {
			exec(db, "delete from items where id = $1", id)
			equal(exec(db, "insert into items (id, owner_id, name, qty) values ($1, $2, $3, $4)", id, 1, "it's", 5), int64(1))
			equal(exec(db, "update items set qty = qty + 1 where id = $1", id), int64(1))
			equal(quantity(db, id), 6)
			equal(exec(db, "delete from items where id = $1", id), int64(1))
			var qty int
			equal(db.QueryRow(ctx, "select qty from items where id = $1", id).Scan(&qty), pgx.ErrNoRows)
		}
	})
	check("values", func() {
		long := strings.Repeat("é漢", 200000)
		exec(db, "insert into items values ($1, $2, $3, $4, $5)", base(), nil, long, nil, `{"a": [1, null]}`)
		var owner *int64
		var name string
		var data map[string]interface{}
		must(db.QueryRow(ctx, "select owner_id, name, data from items where id = $1", base()).Scan(&owner, &name, &data))
		equal(owner, (*int64)(nil))
		equal(name == long, true)
		equal(data, map[string]interface{}{"a": []interface{}{float64(1), nil}})
	})
	check("prepared statements", func() {
		_, err := db.Prepare(ctx, "put", "insert into items (id, qty) values ($1, $2)")
		must(err)
		for id := base() + 100; id < base()+130; id++ {
			exec(db, "delete from items where id = $1", id)
			equal(exec(db, "put", id, id%1000), int64(1))
			equal(quantity(db, id), int(id%1000))
		}
		must(db.Deallocate(ctx, "put"))
	})
	check("batch", func() {
		id := base() + 100
		batch := &pgx.Batch{}
		batch.Queue("update items set qty = 0 where id = $1", id)
		for i := 0; i < 20; i++ {
			batch.Queue("update items set qty = qty + 1 where id = $1", id)
		}
		results := db.SendBatch(ctx, batch)
		for i := 0; i < 21; i++ {
			tag, err := results.Exec()
			must(err)
			equal(tag.RowsAffected(), int64(1))
		}
		must(results.Close())
		equal(quantity(db, id), 20)
	})
}

func transactions(db *pgx.Conn) {
	id := base() + 100
	check("transaction commit", func() {
		must(db.BeginFunc(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "update items set qty = 60 where id = $1", id)
			must(err)
			inner, err := tx.Begin(ctx) // a savepoint
			must(err)
			_, err = inner.Exec(ctx, "update items set qty = 61 where id = $1", id)
			must(err)
			return inner.Rollback(ctx)
		}))
		equal(quantity(db, id), 60)
	})
	check("transaction rollback", func() {
		tx, err := db.Begin(ctx)
		must(err)
		_, err = tx.Exec(ctx, "update items set qty = 99 where id = $1", id)
		must(err)
		must(tx.Rollback(ctx))
		equal(quantity(db, id), 60)
	})
	check("failed transaction", func() {
		tx, err := db.Begin(ctx)
		must(err)
		_, err = tx.Exec(ctx, "select 1/0")
		raises("22012", err)
		_, err = tx.Exec(ctx, "select 1")
		raises("25P02", err)
		must(tx.Rollback(ctx))
		equal(quantity(db, id), 60)
	})
	check("copy", func() {
		exec(db, "delete from imports where id between $1 and $2", base(), base()+999)
		rows := make([][]interface{}, 1000)
		for i := range rows {
			rows[i] = []interface{}{base() + int64(i), "row"}
		}
		count, err := db.CopyFrom(ctx, pgx.Identifier{"imports"}, []string{"id", "name"}, pgx.CopyFromRows(rows)) // binary
		must(err)
		equal(count, int64(1000))
		var out strings.Builder
		tag, err := db.PgConn().CopyTo(ctx, &out, "copy (select * from imports order by id) to stdout csv")
		must(err)
		equal(tag.RowsAffected() >= 1000 && strings.Count(out.String(), "\n") == int(tag.RowsAffected()), true)
	})
}

func faults(db *pgx.Conn) {
	check("errors", func() {
		_, err := db.Exec(ctx, "insert into items (id) values ($1)", base()+100)
		raises("23505", err)
		_, err = db.Exec(ctx, "selekt 1")
		raises("42601", err)
		_, err = db.Exec(ctx, "select 1/0")
		raises("22012", err)
		equal(quantity(db, base()+100), 60)
	})
	check("several shards", func() {
		batch := &pgx.Batch{}
		for id := base() + 400; id < base()+420; id++ {
			exec(db, "delete from items where id = $1", id)
			exec(db, "insert into items (id, qty) values ($1, 0)", id)
			batch.Queue("update items set qty = 1 where id = $1", id)
		}
		expected := 1 // all of it, or refused and nothing
		if err := db.SendBatch(ctx, batch).Close(); err != nil {
			raises("0A000", err)
			expected = 0
		}
		for id := base() + 400; id < base()+420; id++ {
			equal(quantity(db, id), expected)
		}
	})
	check("cancel", func() {
		go func() {
			time.Sleep(500 * time.Millisecond)
			if err := db.PgConn().CancelRequest(ctx); err != nil {
				println("# " + err.Error())
			}
		}()
		_, err := db.Exec(ctx, "select pg_sleep(30)")
		raises("57014", err)
		time.Sleep(200 * time.Millisecond) // let the cancelling connection end
		equal(quantity(db, base()+100), 60)
	})
}

func main() {
	var db *pgx.Conn
	check("connect plain", func() { db = open("sslmode=disable") })
	if db == nil {
		os.Exit(1)
	}
	check("connect TLS", func() {
		secure := open("sslmode=verify-full sslrootcert=" + os.Getenv("PGSSLROOTCERT"))
		must(secure.Ping(ctx))
		must(secure.Close(ctx))
	})
	data(db)
	transactions(db)
	faults(db)
	check("simple protocol", func() {
		config, err := pgx.ParseConfig(connString("sslmode=disable"))
		must(err)
		config.PreferSimpleProtocol = true
		simple, err := pgx.ConnectConfig(ctx, config)
		must(err)
		equal(quantity(simple, base()+100), 60)
		must(simple.Close(ctx))
	})
	check("close", func() { must(db.Close(ctx)) })
	finish()
}
