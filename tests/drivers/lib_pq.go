// lib/pq through database/sql.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
)

func open(options string) *sql.DB {
	db, err := sql.Open("postgres", connString(options))
	must(err)
	return db
}

func raises(sqlstate string, err error) {
	var pgError *pq.Error
	if !errors.As(err, &pgError) {
		must(errors.New("no error instead of " + sqlstate))
	}
	equal(string(pgError.Code), sqlstate)
}

func affected(result sql.Result, err error) int64 {
	must(err)
	count, err := result.RowsAffected()
	must(err)
	return count
}

func exec(db *sql.DB, query string, values ...interface{}) int64 {
	return affected(db.Exec(query, values...))
}

func quantity(db *sql.DB, id int64) (qty int) {
	must(db.QueryRow("select qty from items where id = $1", id).Scan(&qty))
	return qty
}

func data(db *sql.DB) {
	check("crud by key", func() {
		for id := base(); id < base()+20; id++ {
			exec(db, "delete from items where id = $1", id)
			equal(exec(db, "insert into items (id, owner_id, name, qty) values ($1, $2, $3, $4)", id, 1, "it's", 5), int64(1))
			equal(exec(db, "update items set qty = qty + 1 where id = $1", id), int64(1))
			equal(quantity(db, id), 6)
			equal(exec(db, "delete from items where id = $1", id), int64(1))
			var qty int
			equal(db.QueryRow("select qty from items where id = $1", id).Scan(&qty), sql.ErrNoRows)
		}
	})
	check("values", func() {
		long := strings.Repeat("é漢", 200000)
		exec(db, "insert into items values ($1, $2, $3, $4, $5)", base(), nil, long, nil, `{"a": [1, null]}`)
		var owner sql.NullInt64
		var name, data string
		must(db.QueryRow("select owner_id, name, data from items where id = $1", base()).Scan(&owner, &name, &data))
		equal(owner.Valid, false)
		equal(name == long, true)
		equal(data, `{"a": [1, null]}`)
	})
	check("prepared statements", func() {
		insert, err := db.Prepare("insert into items (id, qty) values ($1, $2)")
		must(err)
		defer insert.Close()
		for id := base() + 100; id < base()+130; id++ {
			exec(db, "delete from items where id = $1", id)
			equal(affected(insert.Exec(id, id%1000)), int64(1))
			equal(quantity(db, id), int(id%1000))
		}
	})
	check("batch", func() { // several statements in one message, by the simple protocol
		id := base() + 100
		exec(db, fmt.Sprintf("update items set qty = 1 where id = %d; update items set qty = qty + 1 where id = %d", id, id))
		equal(quantity(db, id), 2)
		rows, err := db.Query(fmt.Sprintf("select qty from items where id = %d; select qty + 1 from items where id = %d", id, id))
		must(err)
		defer rows.Close()
		var found []int
		for more := true; more; more = rows.NextResultSet() {
			for rows.Next() {
				var qty int
				must(rows.Scan(&qty))
				found = append(found, qty)
			}
		}
		equal(found, []int{2, 3})
	})
}

func transactions(db *sql.DB) {
	id := base() + 100
	check("transaction commit", func() {
		tx, err := db.Begin()
		must(err)
		affected(tx.Exec("update items set qty = 60 where id = $1", id))
		must(tx.Commit())
		equal(quantity(db, id), 60)
	})
	check("transaction rollback", func() {
		tx, err := db.Begin()
		must(err)
		affected(tx.Exec("update items set qty = 99 where id = $1", id))
		must(tx.Rollback())
		equal(quantity(db, id), 60)
	})
	check("failed transaction", func() {
		tx, err := db.Begin()
		must(err)
		_, err = tx.Exec("select 1/0")
		raises("22012", err)
		_, err = tx.Exec("select 1")
		raises("25P02", err)
		must(tx.Rollback())
		equal(quantity(db, id), 60)
	})
	check("copy", func() {
		exec(db, "delete from imports where id between $1 and $2", base(), base()+999)
		tx, err := db.Begin()
		must(err)
		copyIn, err := tx.Prepare(pq.CopyIn("imports", "id", "name"))
		must(err)
		for i := int64(0); i < 1000; i++ {
			_, err = copyIn.Exec(base()+i, "row")
			must(err)
		}
		equal(affected(copyIn.Exec()), int64(1000))
		must(copyIn.Close())
		must(tx.Commit())
		var count int
		must(db.QueryRow("select count(*) from imports where id between $1 and $2", base(), base()+999).Scan(&count))
		equal(count, 1000)
	})
}

func faults(db *sql.DB) {
	check("errors", func() {
		_, err := db.Exec("insert into items (id) values ($1)", base()+100)
		raises("23505", err)
		_, err = db.Exec("selekt 1")
		raises("42601", err)
		_, err = db.Exec("select 1/0")
		raises("22012", err)
	})
	check("several shards", func() {
		for id := base() + 400; id < base()+420; id++ {
			exec(db, "delete from items where id = $1", id)
			exec(db, "insert into items (id, qty) values ($1, 0)", id)
		}
		tx, err := db.Begin()
		must(err)
		for id := base() + 400; id < base()+420 && err == nil; id++ {
			_, err = tx.Exec("update items set qty = 1 where id = $1", id)
		}
		expected := 1 // all of it, or refused and nothing
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			raises("0A000", err)
			_ = tx.Rollback() // says that it is over when Commit was what failed
			expected = 0
		}
		for id := base() + 400; id < base()+420; id++ {
			equal(quantity(db, id), expected)
		}
	})
	check("cancel", func() {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		started := time.Now()
		_, err := db.ExecContext(ctx, "select pg_sleep(30)")
		raises("57014", err)
		equal(time.Since(started) < 10*time.Second, true)
		equal(quantity(db, base()+100), 60)
	})
}

func main() {
	db := open("sslmode=disable")
	check("connect plain", func() { must(db.Ping()) })
	check("connect TLS", func() {
		secure := open("sslmode=verify-full sslrootcert=" + os.Getenv("PGSSLROOTCERT"))
		defer secure.Close()
		must(secure.Ping())
	})
	data(db)
	transactions(db)
	faults(db)
	check("binary parameters", func() {
		binary := open("sslmode=disable binary_parameters=yes")
		defer binary.Close()
		equal(quantity(binary, base()+100), 60)
	})
	check("close", func() { must(db.Close()) })
	finish()
}
