package main

import (
	"net/http"
	"os/user"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/console"
)

// openTools makes the gauges of /metrics and the pages of /console.
func (s *Service) openTools(broker *natsjs.Broker) error {
	outbox, err := message.NewOutbox(s.backend.db)
	if err != nil {
		return err
	}
	letters, err := message.NewDeadLetters(s.backend.db, broker, stream, "")
	if err != nil {
		return err
	}
	if err = s.telemetry.gauges(s, outbox, letters); err != nil {
		return err
	}
	s.console, err = console.New(s.engine.Operations(), console.Config{
		Title:       "Orders",
		Authorize:   operator,
		DeadLetters: map[string]*message.DeadLetters{stream: letters},
	})
	return err
}

// operator returns who acts. Only this machine reaches the console, and this example does not
// authenticate, so it is the user that runs the service. A service returns the person that its
// login knows, and an error for a [console.Verb] that this person may not use.
func operator(*http.Request, console.Verb) (string, error) {
	who, err := user.Current()
	if err != nil {
		return "", err
	}
	return who.Username + " on this machine", nil
}

// mountConsole serves the console.
func (a api) mountConsole(r *gin.Engine) {
	r.Any("/console", gin.WrapH(a.console))
	r.Any("/console/*path", gin.WrapH(a.console))
}
