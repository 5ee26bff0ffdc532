package main

// The program as an example, so that what it prints is tested.
func Example() {
	main()
	// Output:
	// order-1 is confirmed
	// order-2 is cancelled because credit.hold: ann has less than 700 cents
	// phones: 1 available, 0 locked, 1 sold
}
