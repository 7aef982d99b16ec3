#!/usr/bin/perl
# DBD::Pg.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:async);

binmode STDOUT, ':encoding(UTF-8)';
$| = 1;
my $base = $ENV{DRIVER_BASE};
my $failed = 0;

sub check {
    my ($name, $action) = @_;
    if (eval { $action->(); 1 }) { print "ok - $name\n" }
    else {
        (my $why = "$@") =~ s/\s+/ /g;
        $failed = 1;
        print "not ok - $name: $why\n";
    }
}

sub equal {
    my ($found, $expected) = map { defined $_ ? $_ : 'undef' } @_;
    die 'found ' . substr($found, 0, 100) . ", expected $expected\n" if $found ne $expected;
}

sub raises {
    my ($sqlstate, $dbh, $action) = @_;
    die "no error instead of $sqlstate\n" if eval { $action->(); 1 };
    equal($dbh->state, $sqlstate);
}

sub connect_to {
    my ($options) = @_;
    return DBI->connect("dbi:Pg:connect_timeout=10;$options", undef, undef, { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_enable_utf8 => 1 });
}

my $db;
check 'connect plain' => sub { $db = connect_to('sslmode=disable'); equal(($db->selectrow_array('select 1'))[0], 1) };
exit 1 if !$db;
check 'connect TLS' => sub {
    my $secure = connect_to("sslmode=verify-full;sslrootcert=$ENV{PGSSLROOTCERT}");
    equal(($secure->selectrow_array('select 1'))[0], 1);
    $secure->disconnect;
};

check 'crud by key' => sub {
    for my $id ($base .. $base + 19) {
        $db->do('delete from items where id = ?', undef, $id);
        equal($db->do('insert into items (id, owner_id, name, qty) values (?, ?, ?, ?)', undef, $id, 1, "it's $id", 5), 1);
        equal(($db->selectrow_array('select name from items where id = ?', undef, $id))[0], "it's $id");
        equal($db->do('update items set qty = qty + 1 where id = ?', undef, $id), 1);
        equal(($db->selectrow_array('delete from items where id = ? returning qty', undef, $id))[0], 6);
    }
};

check 'values' => sub {
    my $big = 'é漢' x 200_000;
    $db->do('insert into items values (?, ?, ?, ?, ?)', undef, $base, undef, $big, undef, '{"a": [1, null]}');
    my @row = $db->selectrow_array('select owner_id, name, data from items where id = ?', undef, $base);
    equal($row[0], undef);
    equal($row[1] eq $big ? 'same' : 'other', 'same');
    equal($row[2], '{"a": [1, null]}');
};

check 'prepared statements' => sub {
    my $insert = $db->prepare('insert into items (id, qty) values (?, ?)');
    my $select = $db->prepare('select qty from items where id = ?');
    for my $id ($base + 100 .. $base + 129) {
        $db->do('delete from items where id = ?', undef, $id);
        $insert->execute($id, $id % 1000);
        $select->execute($id);
        equal(($select->fetchrow_array)[0], $id % 1000);
        $select->finish;
    }
};

check 'batch' => sub {
    $db->do('update items set qty = 0 where id = ?', undef, $base + 100);
    my $statement = $db->prepare('update items set qty = qty + ? where id = ?');
    equal($statement->execute_array({ ArrayTupleStatus => \my @status }, [ (1) x 20 ], [ ($base + 100) x 20 ]), 20);
    equal(($db->selectrow_array('select qty from items where id = ?', undef, $base + 100))[0], 20);
};

check 'transaction commit' => sub {
    $db->begin_work;
    $db->do('update items set qty = 60 where id = ?', undef, $base + 100);
    $db->pg_savepoint('s');
    $db->do('update items set qty = 61 where id = ?', undef, $base + 100);
    $db->pg_rollback_to('s');
    $db->commit;
    equal(($db->selectrow_array('select qty from items where id = ?', undef, $base + 100))[0], 60);
};

check 'transaction rollback' => sub {
    $db->begin_work;
    $db->do('update items set qty = 99 where id = ?', undef, $base + 100);
    $db->rollback;
    equal(($db->selectrow_array('select qty from items where id = ?', undef, $base + 100))[0], 60);
};

check 'copy' => sub {
    $db->do('delete from imports where id between ? and ?', undef, $base, $base + 999);
    $db->do('copy imports (id, name) from stdin');
    $db->pg_putcopydata($base + $_ . "\trow $_\n") for 0 .. 999;
    $db->pg_putcopyend;
    $db->do("copy (select * from imports where id between $base and $base + 999 order by id) to stdout");
    my ($line, $count) = ('', 0);
    $count++ while $db->pg_getcopydata($line) >= 0;
    equal($count, 1000);
};

check 'errors' => sub {
    raises('23505', $db, sub { $db->do('insert into items (id) values (?)', undef, $base + 100) });
    raises('42601', $db, sub { $db->do('selekt 1') });
    raises('22012', $db, sub { $db->do('select 1/0') });
    equal(($db->selectrow_array('select 1'))[0], 1);
};

check 'failed transaction' => sub {
    $db->begin_work;
    raises('22012', $db, sub { $db->do('select 1/0') });
    raises('25P02', $db, sub { $db->do('select 1') });
    $db->rollback;
    equal(($db->selectrow_array('select 1'))[0], 1);
};

check 'several shards' => sub {
    my @keys = ($base + 400 .. $base + 419);
    for my $id (@keys) {
        $db->do('delete from items where id = ?', undef, $id);
        $db->do('insert into items (id, qty) values (?, 0)', undef, $id);
    }
    my $expected = 1;    # all of it, or refused and nothing
    $db->begin_work;
    if (!eval { $db->do('update items set qty = 1 where id = ?', undef, $_) for @keys; $db->commit; 1 }) {
        equal($db->state, '0A000');
        $db->rollback;
        $expected = 0;
    }
    equal(($db->selectrow_array('select qty from items where id = ?', undef, $_))[0], $expected) for @keys;
};

check 'cancel' => sub {
    $db->do('select pg_sleep(30)', { pg_async => PG_ASYNC });
    select undef, undef, undef, 0.5;
    my $before = time;
    $db->pg_cancel;
    die "the cancel came late\n" if time - $before > 10;
    equal($db->state, '57014');
    equal(($db->selectrow_array('select 1'))[0], 1);
};

check 'table information' => sub { equal(join(',', $db->primary_key(undef, 'public', 'items')), 'id') };

$db->disconnect;
exit $failed;
