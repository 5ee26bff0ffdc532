package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/nats-io/nats.go/jetstream"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	sagasql "github.com/tccsaga/tccsaga/sql"
)

// Config configures a run.
type Config struct {
	For  time.Duration // how long there are faults
	Seed uint64        // of what is ordered, and which faults come
	Dir  string        // an empty folder with a short name, for data and output
}

const (
	workers = 4
	callers = 96

	// calm is how long everything may take to come to its end after the last
	// fault.
	calm = time.Minute
)

// run is what a run consists of.
type run struct {
	config     Config
	nursery    *nursery
	mariadb    *mariadb
	broker     *broker
	gateway    *gateway
	workers    []*worker
	told       told
	home, away *sql.DB // past the proxies
	js         jetstream.JetStream
	storm      storm
}

// Run starts everything, calls for Config.For while there are faults, lets
// everything come to its end, and balances the books. The error is of the run
// itself, or of something that should have come to its end and did not; then
// the report may be there, too. When ctx ends, so does the run, without a report.
func Run(ctx context.Context, config Config) (*Report, error) {
	if !supported {
		return nil, fmt.Errorf("chaos: %w: it needs Linux, to pause processes and to end them with itself", errors.ErrUnsupported)
	}
	r := &run{config: config, nursery: newNursery(config.Dir)}
	defer r.close()
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("chaos: starting: %w", err)
	}
	began := time.Now()
	r.suffer(ctx)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("chaos: ended before its time: %w", context.Cause(ctx))
	}
	report := &Report{seed: config.Seed, took: time.Since(began), faults: r.storm.counts, deaths: r.storm.deaths}
	if err := r.storm.err(); err != nil {
		return nil, fmt.Errorf("chaos: %w", err)
	}
	for _, w := range r.workers {
		report.starts += w.starts
	}
	ended := r.settle(ctx)
	books, err := read(ctx, r.home, r.away, r.js, r.gateway, &r.told)
	if err != nil {
		return nil, errors.Join(ended, fmt.Errorf("chaos: reading the books: %w", err))
	}
	report.books, report.found = books, books.balance()
	histories := map[string]string{}
	for _, i := range report.found {
		if i.gid != "" && len(histories) < shownHistories {
			histories[i.gid] = r.history(ctx, i.gid)
		}
	}
	report.histories = histories
	return report, ended
}

// suffer lets the callers call while the storm is on, and returns when the last
// of them has its answer.
func (r *run) suffer(ctx context.Context) {
	source := rand.New(rand.NewPCG(r.config.Seed, 1))
	var calling atomic.Bool
	calling.Store(true)
	var calls sync.WaitGroup
	insisting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	for n := range callers {
		c := &caller{name: fmt.Sprintf("c%d", n), seed: source.Uint64(),
			workers: r.workers, told: &r.told, calling: &calling}
		calls.Go(func() { c.run(insisting) })
	}
	storming, cancel := context.WithTimeout(ctx, r.config.For)
	r.storm.run(storming)
	cancel()
	calling.Store(false)
	late := time.AfterFunc(calm, giveUp)
	calls.Wait()
	late.Stop()
}

// settle waits until everything has come to its end, and stops the workers.
func (r *run) settle(ctx context.Context) error {
	err := eventually(ctx, calm, "everything has come to its end", func() error { return settled(ctx, r.home, r.js) })
	stopping, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, w := range r.workers {
		err = errors.Join(err, w.stop(stopping))
	}
	return err
}

func (r *run) open(ctx context.Context) (err error) {
	var program string
	var builds sync.WaitGroup
	var errs [3]error
	builds.Go(func() { program, errs[0] = buildWorker(ctx, r.config.Dir) })
	builds.Go(func() { r.mariadb, errs[1] = newMariaDB(ctx, r.nursery) })
	builds.Go(func() { r.broker, errs[2] = newBroker(ctx, r.nursery) })
	builds.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if r.gateway, err = newGateway(); err != nil {
		return err
	}
	if err := r.fill(ctx); err != nil {
		return err
	}
	if r.js, err = r.broker.connect(); err != nil {
		return err
	}
	// The broker forgets soon what it has taken, so that a message whose PubAck
	// is lost is published twice, and the inbox has to find out.
	if _, err := r.js.CreateStream(ctx, jetstream.StreamConfig{Name: stream, Subjects: []string{stream + ".>"}, Duplicates: 100 * time.Millisecond}); err != nil {
		return err
	}
	source := rand.New(rand.NewPCG(r.config.Seed, 2))
	var starts sync.WaitGroup
	started := make([]error, workers)
	for n := range workers {
		w, err := newWorker(n, program, r.nursery, r.mariadb, r.broker, r.gateway, rand.New(rand.NewPCG(source.Uint64(), source.Uint64())))
		if err != nil {
			return err
		}
		r.workers = append(r.workers, w)
		starts.Go(func() { started[n] = w.start(ctx) })
	}
	starts.Wait()
	r.storm = storm{rng: source, workers: r.workers, mariadb: r.mariadb, broker: r.broker, gateway: r.gateway, direct: r.home, counts: map[string]int{}}
	return errors.Join(started...)
}

// fill creates the databases and what is in them.
func (r *run) fill(ctx context.Context) (err error) {
	if err := r.mariadb.createDatabases(ctx); err != nil {
		return err
	}
	const notes = "CREATE TABLE notes (id BIGINT AUTO_INCREMENT PRIMARY KEY, gid VARCHAR(128) NOT NULL, branch_id VARCHAR(32) NOT NULL, operation VARCHAR(16) NOT NULL, at DATETIME(6) NOT NULL)"
	var homes, aways *gorm.DB
	if r.home, homes, err = r.database(ctx, home, notes); err != nil {
		return err
	}
	if r.away, aways, err = r.database(ctx, away, notes,
		"CREATE TABLE accounts (id VARCHAR(64) PRIMARY KEY, free BIGINT NOT NULL, held BIGINT NOT NULL, spent BIGINT NOT NULL)",
		// Without a key: an effect that comes twice is there twice.
		"CREATE TABLE effects (message_id VARCHAR(200) NOT NULL)"); err != nil {
		return err
	}
	shelf := stock.New(homes)
	err = shelf.Put(ctx, scarce, scarceAt)
	for n := range articles {
		err = errors.Join(err, shelf.Put(ctx, article(n), plenty))
	}
	for n := range accounts {
		err = errors.Join(err, aways.WithContext(ctx).Exec("INSERT INTO accounts VALUES (?, ?, 0, 0)", account(n), plenty).Error)
	}
	return err
}

func (r *run) database(ctx context.Context, name string, statements ...string) (*sql.DB, *gorm.DB, error) {
	config, err := mysql.ParseDSN(dsn(r.mariadb.address, name, true))
	if err != nil {
		return nil, nil, err
	}
	config.ParseTime, config.Logger = true, &mysql.NopLogger{} // it is cut off whenever the server is killed
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, nil, err
	}
	pool := sql.OpenDB(connector)
	db, err := gorm.Open(gormmysql.New(gormmysql.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, nil, err
	}
	if err := sagasql.Migrate(ctx, db); err != nil {
		return nil, nil, err
	}
	for _, statement := range statements {
		if err := db.WithContext(ctx).Exec(statement).Error; err != nil {
			return nil, nil, err
		}
	}
	return pool, db, nil
}

// close ends every process.
func (r *run) close() {
	for _, w := range r.workers {
		w.close()
	}
	if r.js != nil {
		r.js.Conn().Close()
	}
	for _, db := range []*sql.DB{r.home, r.away} {
		if db != nil {
			db.Close()
		}
	}
	if r.gateway != nil {
		r.gateway.close()
	}
	if r.mariadb != nil {
		r.mariadb.kill()
	}
	if r.broker != nil {
		r.broker.kill()
	}
	r.nursery.close()
}
