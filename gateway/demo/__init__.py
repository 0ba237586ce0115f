"""An airline's day to play into a gateway: `network` has its aircraft and lines, `day` what is told of them and when."""
