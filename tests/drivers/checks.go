// What the Go programs share.
package main

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
)

var failed bool

func base() int64 {
	number, err := strconv.ParseInt(os.Getenv("DRIVER_BASE"), 10, 64)
	if err != nil {
		panic(err)
	}
	return number
}

type failure struct{ text string }

// check runs one item; `must` and `equal` end it.
func check(name string, action func()) {
	defer func() {
		switch why := recover().(type) {
		case nil:
			fmt.Println("ok - " + name)
		case failure:
			failed = true
			fmt.Printf("not ok - %s: %s\n", name, strings.Join(strings.Fields(why.text), " "))
		default:
			panic(why)
		}
	}()
	action()
}

func must(err error) {
	if err != nil {
		panic(failure{err.Error()})
	}
}

func equal(found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		panic(failure{fmt.Sprintf("found %.200v, expected %.200v", found, expected)})
	}
}

func finish() {
	if failed {
		os.Exit(1)
	}
}

func connString(options string) string {
	return fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s connect_timeout=10 %s", os.Getenv("PGHOST"), os.Getenv("PGPORT"),
		os.Getenv("PGUSER"), os.Getenv("PGPASSWORD"), os.Getenv("PGDATABASE"), options)
}
