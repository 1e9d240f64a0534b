mod model;
mod walk;
