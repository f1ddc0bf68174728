"""What the tutorial of Channels teaches: no protocol, one layer group per channel."""
