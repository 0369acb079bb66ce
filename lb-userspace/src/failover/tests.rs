mod parts;
mod simulation;
